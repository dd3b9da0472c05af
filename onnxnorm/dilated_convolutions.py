"""Dilated convolutions that TensorFlow writes as SpaceToBatchND, a convolution and BatchToSpaceND.

It does so where an image's size is unknown, with paddings that are computed from the size. A
convolution has dilations of its own, in TensorFlow's graph as in ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
_ARITHMETIC = frozenset(
    {
        *("Add", "AddV2", "Cast", "ConcatV2", "ExpandDims", "FloorDiv", "FloorMod", "Identity"),
        *("Maximum", "Mul", "Pack", "Reshape", "Squeeze", "StridedSlice", "Sub"),
    }
)
# For sizes up to so many times the dilation the computed paddings are looked at.
_UNITS = 3


def merge(tf: Any, graph_def: Any) -> None:
    """Gives convolutions the dilations that stand around them, in place, where these are certain.

    The nodes before and after the convolution become Identity. What is not surely a dilation stays.
    """
    nodes = {node.name: node for node in graph_def.node}
    readers: dict[str, list[Any]] = {}
    for node in graph_def.node:
        for name in node.input:
            readers.setdefault(_producer(name), []).append(node)
    for last in [node for node in graph_def.node if node.op == "BatchToSpaceND"]:
        chain = _chain(last, nodes, readers)
        if chain is None:
            continue
        first, convolution, is_flat = chain
        block = _constant(tf, nodes, last.input[1])
        paddings = _paddings(tf, nodes, first, last, block)
        if paddings is None:
            continue
        # A sequence is an image of one row.
        rates = [1, *block.tolist()] if is_flat else block.tolist()
        around = [(0, 0), *paddings] if is_flat else list(paddings)
        attributes = convolution.attr
        attributes["dilations"].CopyFrom(tf.compat.v1.AttrValue())
        attributes["dilations"].list.i.extend([1, *rates, 1])
        attributes["padding"].s = b"EXPLICIT"
        attributes["explicit_paddings"].CopyFrom(tf.compat.v1.AttrValue())
        flat = [zeros for pair in ((0, 0), *around, (0, 0)) for zeros in pair]
        attributes["explicit_paddings"].list.i.extend(flat)
        for node in (first, last):
            _pass_on(tf, node)


def _chain(
    last: Any, nodes: Mapping[str, Any], readers: Mapping[str, Sequence[Any]]
) -> tuple[Any, Any, bool] | None:
    """SpaceToBatchND and the convolution before a BatchToSpaceND; whether it is of a sequence."""
    convolution: Any = nodes.get(_producer(last.input[0]))
    is_flat = convolution is not None and convolution.op == "Squeeze"
    if is_flat:
        if list(convolution.attr["squeeze_dims"].list.i) not in ([1], [-3]):
            return None
        convolution = nodes.get(_producer(convolution.input[0]))
    if convolution is None or convolution.op not in _CONVOLUTIONS:
        return None
    plain = (
        convolution.attr["data_format"].s in (b"NHWC", b"")
        and convolution.attr["padding"].s == b"VALID"
        and set(convolution.attr["strides"].list.i) <= {1}
        and set(convolution.attr["dilations"].list.i) <= {1}
    )
    first = nodes.get(_producer(convolution.input[0]))
    if is_flat and first is not None and first.op == "ExpandDims":
        first = nodes.get(_producer(first.input[0]))
    if not plain or first is None or first.op != "SpaceToBatchND":
        return None
    between = [first, convolution]
    if any(len(readers.get(node.name, ())) != 1 for node in between):
        return None
    return first, convolution, is_flat


def _paddings(
    tf: Any, nodes: Mapping[str, Any], first: Any, last: Any, block: Any
) -> list[tuple[int, int]] | None:
    """Zeros before and after each axis, without those that fill the last block and are cropped."""
    same = _constant(tf, nodes, first.input[1])
    if block is None or same is None or not np.array_equal(block, same):
        return None
    axes = len(block)
    found: np.ndarray[Any, Any] | None = None
    for extra in range(1, _UNITS * int(block.max()) + 1):
        sizes = [1, *(extra + 7 * axis for axis in range(axes)), 1]
        values = _evaluated(tf, nodes, (first.input[2], last.input[2]), first.input[0], sizes)
        if values is None:
            return None
        paddings, crops = values
        if paddings.shape != (axes, 2) or crops.shape != (axes, 2) or crops[:, 0].any():
            return None
        own = paddings - crops
        filled = np.array(sizes[1:-1]) + paddings.sum(1)
        if (filled % block).any() or (crops[:, 1] >= block).any() or (own < 0).any():
            return None
        if found is not None and not np.array_equal(found, own):
            return None
        found = own
    return None if found is None else [(int(before), int(after)) for before, after in found]


def _evaluated(
    tf: Any, nodes: Mapping[str, Any], outputs: Sequence[str], image: str, sizes: Sequence[int]
) -> list[Any] | None:
    """Values of tensors computed from nothing but constants and the shape of ``image``."""
    part = tf.compat.v1.GraphDef()
    waiting, seen = [_producer(name) for name in outputs], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        node = nodes.get(name)
        if node is None:
            return None
        if node.op == "Shape" and node.input[0] == image:
            kind = tf.dtypes.as_dtype(node.attr["out_type"].type or tf.int32.as_datatype_enum)
            constant = part.node.add(name=name, op="Const")
            constant.attr["dtype"].type = kind.as_datatype_enum
            shape = np.array(sizes, kind.as_numpy_dtype)
            constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(shape))
            continue
        if node.op != "Const" and node.op not in _ARITHMETIC:
            return None
        part.node.add().CopyFrom(node)
        waiting += map(_producer, node.input)
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(part, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            tensors = [name if ":" in name else f"{name}:0" for name in outputs]
            return list(session.run(tensors))


def _constant(tf: Any, nodes: Mapping[str, Any], name: str) -> Any:
    node = nodes.get(_producer(name))
    if node is None or node.op != "Const":
        return None
    return np.asarray(tf.make_ndarray(node.attr["value"].tensor))


def _pass_on(tf: Any, node: Any) -> None:
    kind = node.attr["T"].type
    value = node.input[0]
    node.op = "Identity"
    node.attr.clear()
    node.attr["T"].type = kind
    del node.input[:]
    node.input.append(value)


def _producer(name: str) -> str:
    return name.removeprefix("^").partition(":")[0]
