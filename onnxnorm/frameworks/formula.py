"""What a framework module says of one layer, for ``capture`` to leave in the trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onnxnorm.errors import ConversionError
from onnxnorm.spec import NormSpec

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Formula:
    """One built layer, applied to an input of one shape, as an operator and its parameters.

    Attributes:
        spec: what the layer computes.
        scale: the learned scale as the framework holds it, or None.
        bias: the learned bias, or None.
        parameter_shape: shape in which the operator takes scale and bias.
    """

    spec: NormSpec
    scale: Any
    bias: Any
    parameter_shape: tuple[int, ...]


def class_path(layer: Any) -> str:
    """Module-qualified name of the layer's class."""
    return f"{type(layer).__module__}.{type(layer).__qualname__}"


def static_dimension(layer: Any, input_shape: Shape, axis: int) -> int:
    """The size of one axis, which the layer's weights make static."""
    size = input_shape[axis]
    if size is None:
        raise ConversionError(
            f"layer {layer.name!r}: axis {axis} of its input {input_shape} has no static size"
        )
    return size


def broadcast_shape(input_shape: Shape, axes: tuple[int, ...]) -> tuple[int, ...]:
    """Shape that spreads parameters over ``axes`` of the input, without leading ones.

    A dimension of unknown size has no parameters of its own: it counts as 1.
    """
    return tuple(
        (size or 1) if axis in axes else 1
        for axis, size in enumerate(input_shape)
        if axis >= min(axes)
    )
