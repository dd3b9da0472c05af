"""``ResizeBicubic``, ``ResizeArea``, ``ScaleAndTranslate``: one matrix for each axis.

ONNX' Resize has some of these filters, but not the numbers that TensorFlow computes with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxnorm.errors import ConversionError

TF_OPS = ("ResizeBicubic", "ResizeArea", "ScaleAndTranslate")

_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "align_corners": bool,
    "half_pixel_centers": bool,
    "antialias": bool,
    "kernel_type": bytes.decode,
}


def convert(graph: Any, node: Any, name: str, args: Any) -> None:
    """→ MatMul with the weights of the rows, MatMul with those of the columns.

    Raises:
        ConversionError: a size of the image is not known at conversion.
    """
    from tf2onnx import utils

    x = node.input[0]
    _, height, width, channels = graph.get_shape(x)
    values = [_known_value(graph, parameter) for parameter in node.input[1:]]
    if -1 in (height, width, channels) or any(value is None for value in values):
        raise ConversionError(
            f"TensorFlow operator {node.type} ({name}) of images whose size is not known before "
            "they come; give the model's input its height and width, or resize by interpolation "
            "'bilinear' or 'nearest'"
        )
    options = {
        key: read(node.get_attr_value(key)) for key, read in _OPTIONS.items() if key in node.attr
    }
    rows, columns = (
        _weights(node.type, length, values, options, axis)
        for axis, length in enumerate((height, width))
    )
    shape, dtype = graph.get_shape(node.output[0]), graph.get_dtype(node.output[0])
    final = {"outputs": node.output, "name": name, "shapes": [shape], "dtypes": [dtype]}
    graph.remove_node(node.name)

    def add(op: str, *inputs: str, **attributes: Any) -> str:
        return str(graph.make_node(op, list(inputs), attr=attributes).output[0])

    def constant(value: Any) -> str:
        return str(graph.make_const(utils.make_name(name), np.asarray(value)).output[0])

    if graph.get_dtype(x) != dtype:
        x = add("Cast", x, to=dtype)
    lines = add("Reshape", x, constant([0, height, width * channels]))
    lines = add("MatMul", constant(rows), lines)
    image = add("Reshape", lines, constant([0, len(rows), width, channels]))
    graph.make_node("MatMul", [constant(columns), image], **final)


def _weights(
    operator: str, length: int, parameters: list[Any], options: dict[str, Any], axis: int
) -> npt.NDArray[np.float32]:
    """What each pixel of an axis weighs in each new one: the operator of the unit matrix.

    Args:
        operator: name of the TensorFlow operator.
        length: pixels of the axis.
        parameters: its inputs beside the image: the new sizes, and scales and translations.
        options: its attributes.
        axis: 0 for the rows, 1 for the columns.
    """
    import tensorflow as tf

    names = ("size", "scale", "translation")
    neutral = (1, 1, 0)
    chosen = {
        key: np.array([value[axis], rest], value.dtype)
        for key, value, rest in zip(names, parameters, neutral, strict=False)
    }
    unit = np.eye(length, dtype=np.float32)[np.newaxis, :, np.newaxis, :]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        resized = getattr(tf.raw_ops, operator)(images=unit, **chosen, **options)
        return np.asarray(session.run(resized))[0, :, 0, :]


def _known_value(graph: Any, tensor: str) -> npt.NDArray[Any] | None:
    """The value of a tensor that is computed from constants and known sizes; else None.

    tf.image.resize divides the new size by the one that it reads from the image.
    """
    from tf2onnx import utils

    node = graph.get_node_by_output(tensor)
    if node is None:
        return None
    if node.is_const():
        return np.asarray(node.get_tensor_value(as_list=False))
    if node.type == "Shape":
        return np.array(graph.get_shape(node.input[0]))
    values = [value for x in node.input if (value := _known_value(graph, x)) is not None]
    if len(values) < len(node.input):
        return None
    if node.type == "Cast":
        return values[0].astype(utils.map_onnx_to_numpy_type(node.get_attr_value("to")))
    if node.type == "Slice":
        return values[0][int(values[1][0]) : int(values[2][0])]
    if node.type == "Div":
        return np.asarray(np.divide(values[0], values[1]))
    return None
