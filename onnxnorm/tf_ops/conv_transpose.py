"""``Conv2DBackpropInput``, ``Conv3DBackpropInputV2``: transposed convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

TF_OPS = ("Conv2DBackpropInput", "Conv3DBackpropInputV2")


def convert(graph: Any, node: Any, name: str, args: Any) -> None:
    """→ ConvTranspose with pads, or, for sizes known only when it runs, what is cut and added.

    What TensorFlow takes away from the whole result, where the size that it is given is smaller,
    is halved between the ends of an axis; where the size is larger, zeros are added at the end.
    """
    from tf2onnx.onnx_opset.nn import ConvTranspose, get_shape_from_const_or_concat

    if get_shape_from_const_or_concat(graph, node.inputs[0]) is None:
        _convert_dynamic(graph, node, name)
        return
    ConvTranspose.version_11(graph, node)
    pads = node.get_attr_value("pads")
    if pads is None or min(pads) >= 0:
        return
    # Negative ones are no valid ONNX.
    spatial = len(pads) // 2
    totals = [pads[i] + pads[i + spatial] for i in range(spatial)]
    starts = [max(total, 0) // 2 for total in totals]
    ends = [max(total, 0) - start for total, start in zip(totals, starts, strict=True)]
    node.set_attr("pads", starts + ends)
    node.set_attr("output_padding", [max(-total, 0) for total in totals])


def _convert_dynamic(graph: Any, node: Any, name: str) -> None:
    from onnx import TensorProto
    from tf2onnx import utils
    from tf2onnx.graph_builder import GraphBuilder

    # tf2onnx has put a bias behind it into it, which zeros that are added have too.
    sizes, kernel, x, *bias = node.input
    rank = graph.get_rank(kernel)
    spatial = rank - 2
    last = node.get_attr_value("data_format").decode().endswith("C")
    axes = slice(1, -1) if last else slice(2, None)
    attributes = {key: list(node.get_attr_value(key))[axes] for key in ("strides", "dilations")}
    shape, dtype = graph.get_shape(node.output[0]), graph.get_dtype(node.output[0])
    final = {"outputs": node.output, "name": name, "shapes": [shape], "dtypes": [dtype]}
    graph.remove_node(node.name)
    build = GraphBuilder(graph)

    def add(op: str, *inputs: str, **options: Any) -> str:
        return str(graph.make_node(op, list(inputs), attr=options).output[0])

    def constant(*values: int) -> str:
        return str(graph.make_const(utils.make_name(name), np.array(values, np.int64)).output[0])

    def part(vector: str, start: int) -> str:
        limits = {"starts": [start], "ends": [start + spatial], "axes": [0]}
        return str(build.make_slice({"data": vector, **limits}))

    if last:
        x = add("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)])
    kernel = add("Transpose", kernel, perm=[rank - 1, rank - 2, *range(spatial)])
    whole = add("ConvTranspose", x, kernel, **attributes)
    wanted = part(add("Cast", sizes, to=TensorProto.INT64), 1 if last else 2)
    found = part(add("Shape", whole), 2)
    none = constant(*[0] * spatial)
    start = add("Div", add("Max", add("Sub", found, wanted), none), constant(2))
    end = add("Add", start, add("Min", found, wanted))
    cut = add("Slice", whole, start, end, constant(*range(2, rank)))
    missing = add("Max", add("Sub", wanted, found), none)
    pads = add("Concat", constant(*[0] * (rank + 2)), missing, axis=0)
    result = add("Pad", cut, pads)
    if bias:
        by_channel = constant(-1, *[1] * spatial)
        result = add("Add", result, add("Reshape", bias[0], by_channel))
    if last:
        back = [0, *range(2, rank), 1]
        graph.make_node("Transpose", [result], attr={"perm": back}, **final)
    else:
        graph.make_node("Identity", [result], **final)
