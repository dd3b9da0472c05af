"""``ResizeBilinear``, ``ResizeNearestNeighbor``: ONNX' Resize where it computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np

TF_OPS = ("ResizeBilinear", "ResizeNearestNeighbor")


def convert(graph: Any, node: Any, name: str, args: Any) -> None:
    """→ Transpose, Resize, Transpose with the sizes themselves, or a Gather of rows and columns.

    tf2onnx gives scales, and their rounding may take a row of the result away. The nearest
    neighbour of a place half way between two pixels is found in TensorFlow's own float32 steps,
    where Resize may find the other one; to multiples of the size there is no such place.
    """
    from onnx import TensorProto
    from tf2onnx import utils
    from tf2onnx.graph_builder import GraphBuilder

    x, size = node.input
    nearest = node.type == "ResizeNearestNeighbor"
    align_corners = node.get_attr_value("align_corners", False)
    half_pixel = node.get_attr_value("half_pixel_centers", False)
    gathered = nearest and not align_corners and not _is_multiple(graph, node)
    shape, dtype = graph.get_shape(node.output[0]), graph.get_dtype(node.output[0])
    final = {"outputs": node.output, "name": name, "shapes": [shape], "dtypes": [dtype]}
    graph.remove_node(node.name)
    build = GraphBuilder(graph)

    def add(op: str, *inputs: str, **attributes: Any) -> str:
        return str(graph.make_node(op, list(inputs), attr=attributes).output[0])

    def constant(value: Any, element: Any = np.int64) -> str:
        return str(graph.make_const(utils.make_name(name), np.array(value, element)).output[0])

    def scalar(vector: str, index: int) -> str:
        return add("Gather", vector, constant(index), axis=0)

    def nearest_indices(before: str, after: str) -> str:
        """Of the pixels of an axis: floor((i + offset) * (before / after)) in float32."""
        floats = (add("Cast", value, to=TensorProto.FLOAT) for value in (before, after))
        places = add("Cast", add("Range", constant(0), after, constant(1)), to=TensorProto.FLOAT)
        if half_pixel:
            places = add("Add", places, constant(0.5, np.float32))
        scaled = add("Floor", add("Mul", places, add("Div", *floats)))
        return add(
            "Min", add("Cast", scaled, to=TensorProto.INT64), add("Sub", before, constant(1))
        )

    if graph.get_dtype(x) != dtype:
        x = add("Cast", x, to=dtype)
    sizes = add("Cast", size, to=TensorProto.INT64)
    if gathered:
        rows, columns = (
            nearest_indices(scalar(add("Shape", x), axis), scalar(sizes, axis - 1))
            for axis in (1, 2)
        )
        x = add("Gather", x, rows, axis=1)
        graph.make_node("Gather", [x, columns], attr={"axis": 2}, **final)
        return
    channels_first = add("Transpose", x, perm=[0, 3, 1, 2])
    shape_of = {"data": add("Shape", channels_first), "starts": [0], "ends": [2], "axes": [0]}
    resized = add(
        "Resize",
        channels_first,
        "",
        "",
        add("Concat", build.make_slice(shape_of), sizes, axis=0),
        mode="nearest" if nearest else "linear",
        coordinate_transformation_mode=(
            "align_corners" if align_corners else "half_pixel" if half_pixel else "asymmetric"
        ),
        nearest_mode="round_prefer_ceil" if half_pixel or align_corners else "floor",
    )
    graph.make_node("Transpose", [resized], attr={"perm": [0, 2, 3, 1]}, **final)


def _is_multiple(graph: Any, node: Any) -> bool:
    """Whether both sizes grow by whole numbers, as UpSampling2D makes them."""
    size = node.inputs[1]
    if size.type == "Mul" and any(factor.is_const() for factor in size.inputs):
        return True
    before = graph.get_shape(node.input[0])[1:3]
    if -1 in before or not size.is_const():
        return False
    return all(a % b == 0 for a, b in zip(size.get_tensor_value(), before, strict=True))
