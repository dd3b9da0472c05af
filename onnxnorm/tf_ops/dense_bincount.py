"""``DenseBincount`` with weights, which tf2onnx refuses. CategoryEncoding sums weights with it."""

from __future__ import annotations

from typing import Any

import numpy as np

TF_OPS = ("DenseBincount",)


def convert(graph: Any, node: Any, name: str, args: Any) -> None:
    """DenseBincount → ScatterElements (zeros, indices, weights), adding.

    Values outside of [0, size) count for nothing. Without weights as tf2onnx converts it, and
    below version 16 of the operators, where ScatterElements does not add.
    """
    from onnx import TensorProto
    from tf2onnx import utils
    from tf2onnx.graph_builder import GraphBuilder
    from tf2onnx.onnx_opset.tensor import Bincount

    values, size, weights = node.input
    weighted = 0 not in (graph.get_shape(weights) or ())
    if not weighted or node.get_attr_value("binary_output", False) or graph.opset < 16:
        Bincount.version_13(graph, node)
        return
    outputs, shape, rank = node.output, graph.get_shape(node.output[0]), graph.get_rank(values)
    dtype = graph.get_dtype(weights)
    graph.remove_node(node.name)

    def add(op: str, *inputs: str, **attributes: Any) -> str:
        return str(graph.make_node(op, list(inputs), attr=attributes).output[0])

    def constant(value: Any, element: Any) -> str:
        return str(graph.make_const(utils.make_name(name), np.array(value, element)).output[0])

    build = GraphBuilder(graph)
    zero, no_weight = constant(0, np.int64), constant(0, utils.map_onnx_to_numpy_type(dtype))
    values, size = (add("Cast", value, to=TensorProto.INT64) for value in (values, size))
    valid = add("And", add("GreaterOrEqual", values, zero), add("Less", values, size))
    sizes = build.make_unsqueeze({"data": size, "axes": [0]})
    if rank == 2:
        whole = {"data": add("Shape", values), "starts": [0], "ends": [1], "axes": [0]}
        sizes = add("Concat", build.make_slice(whole), sizes, axis=0)
    graph.make_node(
        "ScatterElements",
        [
            add("Expand", no_weight, sizes),
            add("Where", valid, values, zero),
            add("Where", valid, weights, no_weight),
        ],
        attr={"axis": -1, "reduction": "add"},
        outputs=outputs,
        name=name,
        shapes=[shape],
        dtypes=[dtype],
    )
