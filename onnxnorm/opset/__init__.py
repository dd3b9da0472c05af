"""The ``onnxnorm`` operator domain: one file per operator, and their functions for a model file."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import onnx

from onnxnorm.opset import (
    filter_response_normalization,
    group_normalization,
    instance_normalization,
    layer_normalization,
    rms_normalization,
    unit_normalization,
)
from onnxnorm.opset.functions import function, optimized_function
from onnxnorm.opset.operator import DOMAIN, RESIDUAL, VERSION, Operator

__all__ = [
    "DOMAIN",
    "OPERATORS",
    "OPERATOR_NAMES",
    "RESIDUAL",
    "VERSION",
    "Operator",
    "function",
    "operator_of",
    "optimized_function",
]

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

# Those that nodes have: with a residual and without.
OPERATOR_NAMES = frozenset(OPERATORS).union(f"{RESIDUAL}{name}" for name in OPERATORS)


def operator_of(node: onnx.NodeProto) -> Operator | None:
    """The operator that a node is of, with a residual or without; None for any other node."""
    if node.domain != DOMAIN:
        return None
    return OPERATORS.get(node.op_type.removeprefix(RESIDUAL))
