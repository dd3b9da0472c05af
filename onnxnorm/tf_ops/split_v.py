"""``SplitV``: pieces of given sizes, of which one may be -1, which stands for all that is left.

tf2onnx leaves the -1 where the size of the axis is unknown, which no ONNX runtime accepts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxnorm.errors import ConversionError

TF_OPS = ("SplitV",)


def convert(graph: Any, node: Any, name: str, args: Any) -> None:
    """SplitV → Split, whose sizes are computed from the shape where they have to be."""
    from onnx import TensorProto
    from tf2onnx import utils

    value, sizes, _ = node.input
    if not node.inputs[2].is_const():
        raise ConversionError(
            f"TensorFlow operator SplitV ({name}) along a computed axis; a constant axis has an "
            "ONNX form"
        )
    axis = int(node.inputs[2].get_tensor_value())
    given = node.inputs[1].get_tensor_value(as_list=False) if node.inputs[1].is_const() else None
    shape, outputs = graph.get_shape(value), node.output
    shapes, dtypes = node.output_shapes, node.output_dtypes
    graph.remove_node(node.name)

    def constant(numbers: Any) -> str:
        tensor = graph.make_const(utils.make_name(name), np.array(numbers, np.int64))
        return str(tensor.output[0])

    length = shape[axis] if shape is not None else -1
    if given is not None and (given >= 0).all():
        sizes = constant(given)
    elif given is not None and length >= 0:
        rest = length - given[given >= 0].sum()
        sizes = constant(np.where(given < 0, rest, given))
    else:
        if graph.get_dtype(sizes) != TensorProto.INT64:
            sizes = graph.make_node("Cast", [sizes], attr={"to": TensorProto.INT64}).output[0]
        zero = constant(0)
        of_value = graph.make_node("Shape", [value]).output[0]
        whole = graph.make_node("Gather", [of_value, constant([axis])]).output[0]
        known = graph.make_node("Max", [sizes, zero]).output[0]
        total = graph.make_node("ReduceSum", [known, constant([0])]).output[0]
        rest = graph.make_node("Sub", [whole, total]).output[0]
        is_rest = graph.make_node("Less", [sizes, zero]).output[0]
        sizes = graph.make_node("Where", [is_rest, rest, sizes]).output[0]
    attributes = {"axis": axis}
    inputs = [value, sizes]
    graph.make_node(
        "Split", inputs, attr=attributes, outputs=outputs, name=name, shapes=shapes, dtypes=dtypes
    )
