"""``LookupTableFindV2``: a table of words or integers. StringLookup and IntegerLookup are these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TF_OPS = ("LookupTableFindV2",)


def convert(graph: Any, node: Any, name: str, args: Sequence[Mapping[bytes, Any]]) -> None:
    """LookupTableFindV2 → ai.onnx.ml LabelEncoder; tf2onnx knows strings to integers and back only.

    ``args``: the tables' keys and values, by the table's shared name.
    """
    from onnx import TensorProto
    from tf2onnx import constants, utils

    (tables,) = args
    table = node.inputs[0]
    while table.type == "Identity":
        table = table.inputs[0]
    keys, values = tables[table.get_attr_value("shared_name")]
    default = node.inputs[2].get_tensor_value()
    x, outputs = node.input[1], node.output
    shape = graph.get_shape(x) or node.output_shapes[0]
    dtype = graph.get_dtype(outputs[0])
    kinds = [_kind(graph, tensor) for tensor in (x, outputs[0])]
    graph.remove_node(node.name)
    if not graph.find_output_consumers(table.output[0]):
        graph.remove_node(table.name)
    if graph.get_dtype(x) == TensorProto.INT32:
        x = graph.make_node("Cast", [x], attr={"to": TensorProto.INT64}).output[0]
    is_narrow = dtype == TensorProto.INT32
    encoded = graph.make_node(
        "LabelEncoder",
        [x],
        attr={
            f"keys_{kinds[0]}s": keys.tolist(),
            f"values_{kinds[1]}s": values.tolist(),
            f"default_{kinds[1]}": default,
        },
        outputs=None if is_narrow else outputs,
        name=utils.make_name(name) if is_narrow else name,
        shapes=[shape],
        dtypes=[TensorProto.INT64 if is_narrow else dtype],
        domain=constants.AI_ONNX_ML_DOMAIN,
    )
    if is_narrow:
        final = {"outputs": outputs, "name": name, "shapes": [shape], "dtypes": [dtype]}
        graph.make_node("Cast", encoded.output, attr={"to": dtype}, **final)


def _kind(graph: Any, tensor: str) -> str:
    """The word for the tensor's element type in the attributes of LabelEncoder."""
    from onnx import TensorProto

    from onnxnorm.errors import ConversionError

    kinds = {
        TensorProto.STRING: "string",
        TensorProto.INT64: "int64",
        TensorProto.INT32: "int64",
        TensorProto.FLOAT: "float",
    }
    dtype = graph.get_dtype(tensor)
    if dtype not in kinds:
        found = TensorProto.DataType.Name(dtype).lower()
        raise ConversionError(
            f"{tensor!r}: a lookup table of {found}; string, int32, int64 or float are accepted"
        )
    return kinds[dtype]
