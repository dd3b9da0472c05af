"""``ExtractImagePatches`` (``tf.image.extract_patches``): every patch of an image as one row.

Both axes of the image are read by Gather, at the rows and columns of each patch, so that the values
come out as they are, whatever their element type. tf2onnx convolves, which spreads a NaN over its
neighbours, and its result is not valid for an unknown batch and several channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

TF_OPS = ("ExtractImagePatches",)


def convert(graph: Any, node: Any, name: str, args: Any) -> None:
    """ExtractImagePatches → Pad, Gather (rows), Gather (columns), Transpose, Reshape.

    X is (batch, height, width, channels), Y is (batch, rows, columns, patch height · patch width ·
    channels), a patch in the order of its rows, columns and channels.
    """
    from onnx import TensorProto
    from tf2onnx import utils

    shape = graph.get_shape(node.input[0])
    utils.make_sure(shape is not None and shape[3] >= 0, "the number of channels is unknown")
    value, outputs = node.input[0], node.output
    shapes, dtypes = node.output_shapes, node.output_dtypes
    kernel, strides, rates = (node.get_attr_value(key) for key in ("ksizes", "strides", "rates"))
    padded = node.get_attr_value("padding") in (b"SAME", "SAME")
    graph.remove_node(node.name)

    def make(operator: str, *inputs: str, **attributes: Any) -> str:
        return str(graph.make_node(operator, [*inputs], attr=attributes).output[0])

    def constant(numbers: Any) -> str:
        tensor = graph.make_const(utils.make_name(name), np.array(numbers, np.int64))
        return str(tensor.output[0])

    def size(tensor: str, axis: int) -> str:
        return make("Gather", make("Shape", tensor), constant([axis]))

    def positions(axis: int) -> tuple[str, str, str, str]:
        """Places of patches along an axis, (patches, size); how many; zeros before and after."""
        stride, within = strides[axis], np.arange(kernel[axis]) * rates[axis]
        extent = int(within[-1]) + 1
        if shape[axis] >= 0:
            count, missing = _fitted(shape[axis], extent, stride, padded)
            places = constant(np.arange(count)[:, None] * stride + within)
            before = constant([missing // 2])
            return places, constant([count]), before, constant([missing - missing // 2])
        step, length = constant([stride]), size(value, axis)
        zero, one = constant([0]), constant([1])
        if padded:
            # Rounded up; the last patch begins at (count - 1) · stride.
            many = make("Div", make("Add", length, constant([stride - 1])), step)
            covered = make("Add", make("Mul", make("Sub", many, one), step), constant([extent]))
            lacking = make("Max", make("Sub", covered, length), zero)
            before = make("Div", lacking, constant([2]))
            after = make("Sub", lacking, before)
        else:
            room = make("Sub", length, constant([extent - stride]))
            many, before, after = make("Div", make("Max", room, zero), step), zero, zero
        numbers = make("Range", constant(0), make("Squeeze", many, zero), constant(1))
        starts = make("Unsqueeze", make("Mul", numbers, step), one)
        return make("Add", starts, constant([within])), many, before, after

    rows, height, top, bottom = positions(1)
    columns, width, left, right = positions(2)
    if padded:
        zero = constant([0])
        pads = make("Concat", zero, top, left, zero, zero, bottom, right, zero, axis=0)
        # Of integers of 16 bits ONNX Runtime has no kernel of Pad.
        narrow = dtypes[0] in (TensorProto.INT16, TensorProto.UINT16)
        value = make("Cast", value, to=TensorProto.INT32) if narrow else value
        value = make("Pad", value, pads)
        value = make("Cast", value, to=dtypes[0]) if narrow else value
    value = make("Gather", make("Gather", value, rows, axis=1), columns, axis=3)
    value = make("Transpose", value, perm=[0, 1, 3, 2, 4, 5])
    depth = constant([kernel[1] * kernel[2] * shape[3]])
    # 0 keeps the size of the batch.
    target = make("Concat", constant([0]), height, width, depth, axis=0)
    graph.make_node(
        "Reshape",
        [value, target],
        outputs=outputs,
        name=name,
        shapes=shapes,
        dtypes=dtypes,
    )


def _fitted(length: int, extent: int, stride: int, padded: bool) -> tuple[int, int]:
    """How many patches lie along an axis, and how many zeros these need beside it."""
    if not padded:
        return max(length - extent + stride, 0) // stride, 0
    count = -(-length // stride)
    return count, max((count - 1) * stride + extent - length, 0)
