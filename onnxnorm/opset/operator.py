"""The record that describes one operator of the domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxnorm.spec import NormSpec

DOMAIN = "onnxnorm"
VERSION = 1
# Before an operator's name: the operator with a residual as its fourth input. A function body
# cannot add an input only where it is given, so the two have bodies, and names, of their own.
RESIDUAL = "Residual"

Array = npt.NDArray[Any]
Attributes = dict[str, Any]


@dataclass(frozen=True)
class Site:
    """Where a node stands in a graph: all that its lowering may depend on.

    Attributes:
        attributes: the node's attributes, every one of them.
        shape: shape of X, None where a size is unknown.
        parameter_shapes: shapes of scale and bias, each None where it is unknown.
        elem_type: ONNX element type of X.
        opset: version of the standard operators.
        has_scale: False where scale is known to be ones.
        has_bias: False where bias is known to be zeros.
    """

    attributes: Attributes
    shape: tuple[int | None, ...]
    parameter_shapes: tuple[tuple[int | None, ...] | None, tuple[int | None, ...] | None]
    elem_type: int
    opset: int
    has_scale: bool = True
    has_bias: bool = True


@dataclass(frozen=True)
class Operator:
    """All there is to know about one operator, apart from its kernel.

    Attributes:
        name: operator name in the ``onnxnorm`` domain.
        doc: what it computes, with the formula, in two lines.
        attributes: every attribute with its default, None where the caller must give it.
        body: the operator in standard ONNX operators: statements from ``X, scale, bias`` to
            ``Y_stash``, which is of the type ``stash_type``, valid from opset 13 on.
        reference: the float64 oracle in plain numpy: ``reference(x, scale, bias, **attributes)``.
        attributes_of: the node attributes that express a NormSpec.
        permuted: the attributes that compute the same on ``Transpose(X, perm)``, given those
            for X.
        lower: the best standard operators for one place in a graph, in the same text form as
            ``body`` but without attribute references, and to ``Y`` itself.
        broadcasts_parameters: whether scale and bias broadcast to X; else they are per channel.
    """

    name: str
    doc: str
    attributes: Mapping[str, Any]
    body: str
    reference: Callable[..., Array]
    attributes_of: Callable[[NormSpec], Attributes]
    permuted: Callable[[Attributes, Sequence[int]], Attributes]
    lower: Callable[[Site], str]
    broadcasts_parameters: bool = False


def stash_type(spec: NormSpec) -> int:
    """ONNX element type in which the function body computes: double for double, else float."""
    is_double = spec.compute_dtype == "float64"
    return int(onnx.TensorProto.DOUBLE if is_double else onnx.TensorProto.FLOAT)


def normalized(
    x: Array, axes: tuple[int, ...], epsilon: float, subtract_mean: bool = True
) -> Array:
    """x in float64 with zero mean and unit variance over axes (biased variance)."""
    centered = x - x.mean(axis=axes, keepdims=True, dtype=np.float64)
    # The first mean is itself rounded: a second pass takes out what it left.
    centered -= centered.mean(axis=axes, keepdims=True)
    variance = np.square(centered).mean(axis=axes, keepdims=True)
    result: Array = (centered if subtract_mean else x) / np.sqrt(variance + epsilon)
    return result
