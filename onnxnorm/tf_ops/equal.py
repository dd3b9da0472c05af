"""``Equal``, ``NotEqual`` of strings, which ONNX compares from version 19 on: masks of words."""

from __future__ import annotations

from typing import Any

from onnxnorm.errors import ConversionError

TF_OPS = ("Equal", "NotEqual")


def convert(graph: Any, node: Any, name: str, args: Any) -> None:
    """Of strings and a constant one: → ai.onnx.ml LabelEncoder, to 1 and 0. Else as tf2onnx.

    Raises:
        ConversionError: two tensors of strings of which none is a constant.
    """
    from onnx import TensorProto
    from tf2onnx import constants
    from tf2onnx.onnx_opset.logical import Equal

    if graph.get_dtype(node.input[0]) != TensorProto.STRING:
        Equal.version_11(graph, node)
        return
    words = [operand for operand in node.inputs if operand.is_const() and operand.is_scalar()]
    if not words:
        raise ConversionError(
            f"TensorFlow operator {node.type} ({name}) of two tensors of strings; of strings and "
            "one constant string it has an ONNX form"
        )
    (x,) = (tensor for tensor in node.input if tensor != words[0].output[0])
    word = words[0].get_tensor_value()
    outputs, shape = node.output, graph.get_shape(node.output[0])
    values = (0, 1) if node.type == "NotEqual" else (1, 0)
    graph.remove_node(node.name)
    attributes = {
        "keys_strings": [word],
        "values_int64s": values[:1],
        "default_int64": values[1],
    }
    number = graph.make_node(
        "LabelEncoder",
        [x],
        attr=attributes,
        shapes=[shape],
        dtypes=[TensorProto.INT64],
        domain=constants.AI_ONNX_ML_DOMAIN,
    )
    final = {"outputs": outputs, "name": name, "shapes": [shape], "dtypes": [TensorProto.BOOL]}
    graph.make_node("Cast", number.output, attr={"to": TensorProto.BOOL}, **final)
