"""What an adapter says of one layer, and how that fits the layer's input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from onnxnorm import arguments
from onnxnorm.errors import ConversionError
from onnxnorm.spec import NormSpec, Operator

Shape = tuple[int | None, ...]
Array = npt.NDArray[Any]

_PER_CHANNEL = ("GroupNormalization", "InstanceNormalization")


@dataclass(frozen=True)
class Formula:
    """What one built layer computes of an input of one shape.

    Attributes:
        operator: name of the operator in the ``onnxnorm`` domain, see docs/operators.md.
        axes: the channel axis alone for group and instance normalization, the normalized axes
            for the others; negative ones count from the end.
        epsilon: added to the variance or the mean square; for unit normalization the least sum
            of squares.
        scale: the learned scale, an array or a variable, or None. One value for each place in
            ``axes`` (for group and instance normalization: for each channel), or of a shape that
            broadcasts to the input.
        bias: the learned bias, or None; of shapes as ``scale``.
        groups: number of groups (group normalization).
        subtract_mean: whether the mean is taken off the input (layer normalization).
        parameter_shape: shape in which scale and bias broadcast to the input, where it is another
            than ``axes`` tell.

    Raises:
        ArgumentError: a field of a wrong type.
    """

    operator: Operator
    axes: Sequence[int]
    epsilon: float
    scale: Any = None
    bias: Any = None
    groups: int | None = None
    subtract_mean: bool = True
    parameter_shape: Sequence[int] | None = None

    def __post_init__(self) -> None:
        own = type(self).__name__
        arguments.text(own, "operator", self.operator)
        arguments.integers(own, "axes", self.axes)
        if not hasattr(self.epsilon, "__float__") or isinstance(self.epsilon, (type, bool)):
            arguments.refuse(own, "epsilon", self.epsilon, "a number")
        for name in ("scale", "bias"):
            value = getattr(self, name)
            if value is not None and not _is_like_an_array(value):
                arguments.refuse(own, name, value, "an array, a variable or None")
        if self.groups is not None:
            arguments.integer(own, "groups", self.groups)
        arguments.flag(own, "subtract_mean", self.subtract_mean)
        if self.parameter_shape is not None:
            arguments.integers(own, "parameter_shape", self.parameter_shape, least=1)


def _is_like_an_array(value: Any) -> bool:
    return isinstance(value, (list, tuple, Real)) or (
        not isinstance(value, type)
        and any(hasattr(value, name) for name in ("numpy", "__array__", "shape"))
    )


@dataclass(frozen=True)
class Fitted:
    """A formula that fits its layer's input.

    Attributes:
        spec: what the layer computes.
        scale: in a shape that the operator takes; ones where the layer has none.
        bias: the same; zeros where the layer has none.
    """

    spec: NormSpec
    scale: Array
    bias: Array


def fitted(formula: Formula, layer: Any, input_shape: Shape) -> Fitted:
    """The formula of a layer made whole for inputs of a shape.

    Raises:
        ConversionError: it does not fit the input; the message names the layer.
    """
    try:
        axes = _checked_axes(formula, input_shape)
        scale, bias = _parameters(formula, axes, input_shape)
    except _MisfitError as problem:
        raise ConversionError(f"layer {layer.name!r}: {problem}") from None
    spec = NormSpec(
        operator=formula.operator,
        axes=axes,
        epsilon=float(formula.epsilon),
        layer_name=layer.name,
        layer_class=class_path(layer),
        groups=formula.groups if formula.operator == "GroupNormalization" else None,
        subtract_mean=formula.subtract_mean,
        has_scale=formula.scale is not None,
        has_bias=formula.bias is not None,
        compute_dtype=layer.compute_dtype,
    )
    return Fitted(spec, scale, bias)


class _MisfitError(Exception):
    """What is wrong with a formula, for a message that begins with the layer's name."""


def _checked_axes(formula: Formula, input_shape: Shape) -> tuple[int, ...]:
    """The axes counted from the start in ascending order, of a formula that fits the input."""
    if not isinstance(formula, Formula):
        raise _MisfitError(f"its adapter returned {formula!r}; expected an onnxnorm.Formula")
    if formula.operator not in get_args(Operator):
        raise _MisfitError(f"unknown operator {formula.operator!r}: one of {get_args(Operator)}")
    per_channel = formula.operator in _PER_CHANNEL
    axes = _positive(formula.axes, len(input_shape))
    if axes is None or (per_channel and (len(axes) != 1 or axes == (0,))):
        wanted = "one axis other than the batch axis" if per_channel else "distinct axes"
        raise _MisfitError(
            f"axes {tuple(formula.axes)} of the input {input_shape}; {formula.operator} takes "
            f"{wanted} of it"
        )
    if not 0 <= formula.epsilon <= np.finfo(np.float32).max:
        raise _MisfitError(f"epsilon {formula.epsilon}; expected 0 to what float32 holds")
    channels = input_shape[axes[0]]
    if per_channel and channels is None:
        raise _MisfitError(f"axis {axes[0]} of its input {input_shape} has no static size")
    groups = formula.groups or 0
    if formula.operator == "GroupNormalization" and (groups < 1 or (channels or 0) % groups):
        raise _MisfitError(
            f"{formula.groups} groups; expected a divisor of its {channels} channels"
        )
    return axes


def _parameters(formula: Formula, axes: tuple[int, ...], input_shape: Shape) -> tuple[Array, Array]:
    """Scale and bias in shapes that the operator takes."""
    per_channel = formula.operator in _PER_CHANNEL
    by_axes = (input_shape[axes[0]] or 1,) if per_channel else broadcast_shape(input_shape, axes)
    wanted = by_axes if formula.parameter_shape is None else tuple(formula.parameter_shape)
    given: dict[str, Array] = {}
    for name, value in (("scale", formula.scale), ("bias", formula.bias)):
        if value is None:
            continue
        value = array(value)
        if value.dtype.kind in "OSUMmc":
            raise _MisfitError(f"{name} of dtype {value.dtype}; expected real numbers")
        # Parameters of a channel do not broadcast: the operator knows where they belong.
        shape = _parameter_shape(value, wanted, () if per_channel else input_shape)
        if shape is None:
            other = "" if per_channel else f" or what broadcasts to the input {input_shape}"
            raise _MisfitError(
                f"{name} of shape {value.shape}; expected {math.prod(wanted)} values{other}"
            )
        given[name] = value.reshape(shape)
    # A parameter that the layer lacks takes after the other: kernels are fastest for equal shapes.
    default = (1,) if formula.operator == "UnitNormalization" else wanted
    fill = next((value.shape for value in given.values()), default)
    return (
        given.get("scale", np.ones(fill, np.float32)),
        given.get("bias", np.zeros(fill, np.float32)),
    )


def class_path(layer: Any) -> str:
    """Module-qualified name of the layer's class."""
    return f"{type(layer).__module__}.{type(layer).__qualname__}"


def array(value: Any) -> Array:
    """The value of a variable, tensor or array."""
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def broadcast_shape(input_shape: Shape, axes: Sequence[int]) -> tuple[int, ...]:
    """Shape that spreads parameters over ``axes`` of the input, without leading ones.

    A dimension of unknown size has no parameters of its own: it counts as 1.
    """
    return tuple(
        (size or 1) if axis in axes else 1
        for axis, size in enumerate(input_shape)
        if axis >= min(axes)
    )


def _positive(axes: Sequence[int], rank: int) -> tuple[int, ...] | None:
    """The axes counted from the start in ascending order; None where they are no set of axes."""
    if not all(-rank <= axis < rank for axis in axes):
        return None
    positive = tuple(sorted({axis % rank for axis in axes}))
    return positive if positive and len(positive) == len(axes) else None


def _parameter_shape(
    value: Array, wanted: tuple[int, ...], input_shape: Shape
) -> tuple[int, ...] | None:
    """The wanted shape if the values fill it, else their own; None if it does not broadcast."""
    if not input_shape:
        return wanted if value.size == math.prod(wanted) else None
    shape = wanted if value.size == math.prod(wanted) else value.shape or (1,)
    fits = len(shape) <= len(input_shape) and all(
        size == 1 or place in (size, None)
        for size, place in zip(shape[::-1], input_shape[::-1], strict=False)
    )
    return shape if fits else None
