"""The ``onnxnorm`` operator domain: one file per operator, and its function for a model file."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import onnx
import onnx.parser

from onnxnorm.opset import (
    filter_response_normalization,
    group_normalization,
    instance_normalization,
    layer_normalization,
    rms_normalization,
    unit_normalization,
)
from onnxnorm.opset.operator import DOMAIN, VERSION, Operator

__all__ = ["DOMAIN", "OPERATORS", "VERSION", "Operator", "function"]

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        module.OPERATOR.name: module.OPERATOR
        for module in (
            filter_response_normalization,
            group_normalization,
            instance_normalization,
            layer_normalization,
            rms_normalization,
            unit_normalization,
        )
    }
)


def function(operator: Operator, opset: int) -> onnx.FunctionProto:
    """The operator as a model-local function in standard operators of ``opset`` (15 or later).

    One function serves every node of the operator: attributes reach the body by reference.
    """
    declared = [
        name if default is None else f"{name}: {_attribute_type(default)} = {default!r}"
        for name, default in operator.attributes.items()
    ]
    text = (
        f'<domain: "{DOMAIN}", opset_import: ["" : {opset}]>\n'
        f"{operator.name} <{', '.join(declared)}> (X, scale, bias) => (Y)\n"
        f"{{{operator.body}}}"
    )
    return onnx.parser.parse_function(text)


def _attribute_type(default: object) -> str:
    if isinstance(default, list):
        return "ints"
    return "int" if isinstance(default, int) else "float"
