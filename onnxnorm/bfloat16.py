"""bfloat16 for tf2onnx, which lacks the type: float32 that is rounded where TensorFlow rounds it.

TensorFlow's CPU computes an operation on bfloat16 in float32 and rounds the result. Here the graph
comes to say so itself, with a mark at each rounding that ``graph.rounding`` turns into Casts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from onnxnorm import concrete

MARK_OP = "PreventGradient"
"""An identity that no inference graph has a use for, and whose shape TensorFlow infers."""

_MESSAGE = "onnxnorm: rounded to bfloat16"

# Operations that move, choose or compare: what they return of bfloat16 numbers is bfloat16. One
# that is missing here costs two Casts and no digit.
_EXACT = frozenset(
    {
        "Abs",
        "BatchToSpaceND",
        "BroadcastTo",
        "Ceil",
        "CheckNumerics",
        "ClipByValue",
        "Concat",
        "ConcatV2",
        "Const",
        "DepthToSpace",
        "DynamicStitch",
        "EnsureShape",
        "ExpandDims",
        "ExtractImagePatches",
        "Fill",
        "Floor",
        "Gather",
        "GatherNd",
        "GatherV2",
        "Identity",
        "IdentityN",
        "If",
        "MatrixBandPart",
        "MatrixDiagPartV3",
        "MatrixDiagV3",
        "Max",
        "MaxPool",
        "MaxPool3D",
        "MaxPoolV2",
        "Maximum",
        "Min",
        "Minimum",
        "MirrorPad",
        "Neg",
        "OneHot",
        "OnesLike",
        "Pack",
        "Pad",
        "PadV2",
        "PartitionedCall",
        "Placeholder",
        "PlaceholderWithDefault",
        "PreventGradient",
        "Relu",
        "Relu6",
        "Reshape",
        "ResizeNearestNeighbor",
        "ReverseSequence",
        "ReverseV2",
        "Rint",
        "Roll",
        "Round",
        "Select",
        "SelectV2",
        "Sign",
        "Slice",
        "SpaceToBatchND",
        "SpaceToDepth",
        "Split",
        "SplitV",
        "Squeeze",
        "StatefulPartitionedCall",
        "StatelessIf",
        "StatelessWhile",
        "StopGradient",
        "StridedSlice",
        "TensorListConcatV2",
        "TensorListGather",
        "TensorListGetItem",
        "TensorListStack",
        "Tile",
        "TopKV2",
        "Transpose",
        "Unpack",
        "While",
        "ZerosLike",
    }
)


def in_float32(tf: Any, graph_def: Any) -> None:
    """Makes a graph with bfloat16 in it one of float32 that computes the same, in place.

    Its placeholders and results of dtype bfloat16 become float32 too.

    Args:
        tf: the ``tensorflow`` module.
        graph_def: a frozen ``GraphDef``; its functions are renamed.
    """
    bodies = graph_def.library.function
    nodes = [*graph_def.node, *(node for body in bodies for node in body.node_def)]
    if not any(_has_bfloat16(tf, node) for node in nodes):
        return
    concrete.rename_functions(graph_def)
    _round(tf, graph_def.node, in_function=False)
    for body in bodies:
        rounded = _round(tf, body.node_def, in_function=True)
        for name, source in body.ret.items():
            body.ret[name] = rounded.get(source, source)
        for argument in (*body.signature.input_arg, *body.signature.output_arg):
            argument.type = _wider(tf, argument.type)


def keep_mark(graph: Any, node: Any, name: str, args: Any) -> None:
    """tf2onnx's handler for `MARK_OP`: ours stays as it is."""
    if node.get_attr_str("message") != _MESSAGE:
        node.type = "Identity"


def _round(tf: Any, nodes: Any, in_function: bool) -> dict[str, str]:
    """Widens the nodes and rounds their results; gives the new names of results that got one."""
    rounded: dict[str, str] = {}
    marks: list[Any] = []
    for node in nodes:
        for result in _computed(tf, node, in_function):
            mark = tf.compat.v1.NodeDef(op=MARK_OP, name=f"{node.name}/bfloat16_{len(marks)}")
            mark.input.append(result)
            mark.attr["T"].type = tf.float32.as_datatype_enum
            mark.attr["message"].s = _MESSAGE.encode()
            marks.append(mark)
            rounded[result] = f"{mark.name}:output:0" if in_function else mark.name
    casts = [node.name for node in nodes if _widen(tf, node)]
    renamed = {f"{name}:y:0": f"{name}:output:0" for name in casts}
    for node in nodes:
        node.input[:] = [rounded.get(name, renamed.get(name, name)) for name in node.input]
    for mark in marks:
        mark.input[:] = [renamed.get(name, name) for name in mark.input]
    nodes.extend(marks)
    return renamed | rounded


def _computed(tf: Any, node: Any, in_function: bool) -> Iterator[str]:
    """Names of the results of a node that are bfloat16 by rounding."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(node.op)
    if node.op in _EXACT or definition is None:  # None: the call of a function
        return
    position = 0
    for result in definition.output_arg:
        if result.type_list_attr:
            types = list(node.attr[result.type_list_attr].list.type)
        else:
            count = node.attr[result.number_attr].i if result.number_attr else 1
            types = [result.type or node.attr[result.type_attr].type] * count
        for index, number in enumerate(types):
            if number == tf.bfloat16.as_datatype_enum:
                if in_function:
                    yield f"{node.name}:{result.name}:{index}"
                else:
                    yield f"{node.name}:{position}" if position else node.name
            position += 1


def _widen(tf: Any, node: Any) -> bool:
    """Puts float32 for bfloat16; true for a Cast that became an Identity by it."""
    for attribute in node.attr.values():
        kind = attribute.WhichOneof("value")
        if kind == "type":
            attribute.type = _wider(tf, attribute.type)
        elif kind == "list" and attribute.list.type:
            attribute.list.type[:] = [_wider(tf, number) for number in attribute.list.type]
        elif kind == "tensor" and attribute.tensor.dtype == tf.bfloat16.as_datatype_enum:
            values = tf.make_ndarray(attribute.tensor).astype(np.float32)
            attribute.tensor.CopyFrom(tf.make_tensor_proto(values))
    is_idle: bool = node.op == "Cast" and node.attr["SrcT"].type == node.attr["DstT"].type
    if is_idle:
        node.op = "Identity"
        node.attr["T"].type = node.attr["DstT"].type
        for name in ("SrcT", "DstT", "Truncate"):
            node.attr.pop(name, None)
    return is_idle


def _has_bfloat16(tf: Any, node: Any) -> bool:
    number = tf.bfloat16.as_datatype_enum
    return any(number in (a.type, *a.list.type) for a in node.attr.values())


def _wider(tf: Any, number: int) -> int:
    is_bfloat16 = number == tf.bfloat16.as_datatype_enum
    return int(tf.float32.as_datatype_enum) if is_bfloat16 else number
