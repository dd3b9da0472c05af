"""``Bucketize``: the number of boundaries that are at most x. Discretization is made of it."""

from __future__ import annotations

from typing import Any

import numpy as np

TF_OPS = ("Bucketize",)


def convert(graph: Any, node: Any, name: str, args: Any) -> None:
    """Bucketize → ReduceSum (Not (Less (x, boundaries))) over one more axis.

    The boundaries are float32, and so TensorFlow compares integers with them; a float64 stays one.
    NaN is behind all boundaries.
    """
    from onnx import TensorProto
    from tf2onnx import utils
    from tf2onnx.graph_builder import GraphBuilder

    (x,), outputs = node.input, node.output
    shape, dtype = graph.get_shape(x), graph.get_dtype(x)
    boundaries = np.array(node.get_attr_value("boundaries"), np.float32)
    graph.remove_node(node.name)
    build = GraphBuilder(graph)
    if dtype == TensorProto.DOUBLE:
        boundaries = boundaries.astype(np.float64)
    elif dtype != TensorProto.FLOAT:
        x = graph.make_node("Cast", [x], attr={"to": TensorProto.FLOAT}).output[0]
    columns = build.make_unsqueeze({"data": x, "axes": [-1]})
    constant = graph.make_const(utils.make_name(name), boundaries).output[0]
    below = graph.make_node("Less", [columns, constant]).output[0]
    reached = graph.make_node("Not", [below]).output[0]
    ones = graph.make_node("Cast", [reached], attr={"to": TensorProto.INT32}).output[0]
    build.make_reduce_sum(
        {"data": ones, "axes": [-1], "keepdims": 0, "outputs": outputs},
        name=name,
        shapes=[shape],
        dtypes=[TensorProto.INT32],
    )
