"""The formula of a layer of an unknown class, found from the results that the layer gives.

Chosen inputs show which values the layer normalizes together, its epsilon, its scale and its bias.
The formula found so has to give the layer's results for inputs of other magnitudes, means and
sizes too. All is in float64, in which a formula that is only nearly the same differs visibly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from onnxnorm.frameworks.formula import Formula, Shape
from onnxnorm.spec import Operator

Array = npt.NDArray[np.float64]
Compute = Callable[[Array], Array]
# What the input is divided by. Only "variance" subtracts the mean from the input first.
_Divisor = Literal["variance", "mean square", "variance, mean kept", "length"]

_OPERATORS: dict[_Divisor, Operator] = {
    "variance": "LayerNormalization",
    "mean square": "RMSNormalization",
    "variance, mean kept": "LayerNormalization",
    "length": "UnitNormalization",
}
_SEED = 0
_TOLERANCE = 1e-6
# Values of one input; more take seconds for each layer.
_LARGEST = 2**15
# Sizes of the batch and of the axes of unknown size, for two sets of inputs.
_SIZES = ((2, 3, 4, 5, 6, 7), (3, 6, 5, 4, 3, 2))
_LARGE = 1e30
_SMALL = 10.0 ** -np.arange(13)


class NoFormulaError(Exception):
    """Why a layer has no formula; the message follows the layer's name."""


def formula_of(compute: Compute, input_shape: Shape) -> Formula:
    """The one formula that gives the results of ``compute``, within rounding.

    Args:
        compute: from the input of a layer, float64, to the layer's result of the same shape.
        input_shape: shape of the input, batch axis first; None for an unknown size.

    Raises:
        NoFormulaError: no formula agrees with ``compute``, or several do.
    """
    if not 2 <= len(input_shape) <= len(_SIZES[0]):
        raise NoFormulaError(f"inputs of rank {len(input_shape)} are not examined")
    first, second = (_with_sizes(input_shape, sizes) for sizes in _SIZES)
    if is_large(input_shape):
        raise NoFormulaError(f"inputs of shape {first} are too large to be examined")
    generator = np.random.default_rng(_SEED)
    shapes = [first, second] if None in input_shape else [first]
    with np.errstate(all="ignore"):
        answers = _ask(compute, first, generator)
        found = [
            solved
            for groups in _groups(compute, answers)
            for divisor in _OPERATORS
            if (solved := _solve(answers, groups, divisor, input_shape)) is not None
            and all(
                solved.agrees(compute, probe)
                for shape in shapes
                for probe in _probes(shape, solved, generator)
            )
        ]
    if len(found) != 1:
        agree = "several formulas agree" if found else "no formula agrees"
        raise NoFormulaError(f"{agree} with the results of its operations")
    return found[0].formula(input_shape)


def is_large(input_shape: Shape) -> bool:
    """Whether inputs of a shape are too large to be examined."""
    return math.prod(_with_sizes(input_shape, _SIZES[0])) > _LARGEST


def _with_sizes(shape: Shape, unknown: Sequence[int]) -> tuple[int, ...]:
    return tuple(u if size is None else size for size, u in zip(shape, unknown, strict=False))


@dataclass(frozen=True)
class _Answers:
    """Results of the layer, each without the bias.

    Attributes:
        bias: the result for zeros, of the shape (1, ...).
        plain: an input and its result.
        large: inputs beside which any epsilon vanishes, and their results.
        small: inputs of ever smaller values, and their results.
    """

    bias: Array
    plain: tuple[Array, Array]
    large: list[tuple[Array, Array]]
    small: list[tuple[Array, Array]]


def _ask(compute: Compute, shape: tuple[int, ...], generator: np.random.Generator) -> _Answers:
    zero = compute(np.zeros(shape))
    if not np.isfinite(zero).all():
        raise NoFormulaError("without an epsilon its result for zeros is not finite")
    if (zero != zero[:1]).any():
        raise NoFormulaError("its result depends on the place in the batch")
    bias = zero[:1]

    def asked(x: Array) -> tuple[Array, Array]:
        return x, compute(x) - bias

    x = generator.normal(size=shape)
    large = [asked(_LARGE * generator.normal(size=shape)) for _ in range(3)]
    return _Answers(bias, asked(x), large, [asked(x * factor) for factor in _SMALL])


@dataclass(frozen=True)
class _Groups:
    """Which values are normalized together.

    Attributes:
        axes: those along ``axes``,
        blocked: of which this one, where it is not None, is split
        count: into this many blocks.
    """

    axes: tuple[int, ...]
    blocked: int | None = None
    count: int = 1

    def parts(self, x: Array, divisor: _Divisor) -> tuple[Array, Array]:
        """What is divided, and the square of what it is divided by, without epsilon."""
        view, axes = x, self.axes
        if self.blocked is not None:
            split = self.blocked
            sizes = x.shape[:split], (self.count, -1), x.shape[split + 1 :]
            view, axes = x.reshape(sum(sizes, ())), tuple(axis + (axis >= split) for axis in axes)
        centered = view - view.mean(axes, keepdims=True)
        values = view if divisor in ("mean square", "length") else centered
        square = np.square(values).mean(axes, keepdims=True)
        if divisor == "length":
            square = square * math.prod(view.shape[axis] for axis in axes)
        divided = centered if divisor == "variance" else view
        return divided.reshape(x.shape), np.broadcast_to(square, view.shape).reshape(x.shape)


def _groups(compute: Compute, answers: _Answers) -> Iterator[_Groups]:
    """Told by the places whose results change together with one value of the input."""
    x, y = answers.plain
    strength = np.abs(y[0])
    if not (np.isfinite(y).all() and strength.any()):
        raise NoFormulaError("its result does not depend on its input, or is not finite")
    moved = x.copy()
    moved[0].reshape(-1)[strength.argmax()] += 100
    changed = np.abs(compute(moved) - answers.bias - y) > 1e-10 * strength.max()
    if changed[1:].any():
        raise NoFormulaError("its result for one sample depends on the other samples")
    places = [np.unique(along) for along in np.nonzero(changed)]
    axes = tuple(axis for axis, along in enumerate(places) if len(along) > 1)
    parts = [axis for axis in axes if len(places[axis]) < x.shape[axis]]
    if not axes:
        raise NoFormulaError("it normalizes over no axis")
    others = [a for a in range(1, x.ndim) if a not in axes and x.shape[a] > 1]
    if len(parts) == 1 and not others:
        (axis,) = parts
        count, rest = divmod(x.shape[axis], len(places[axis]))
        if not rest:
            yield _Groups(axes, axis, count)
    # A scale of zeros hides changes.
    yield _Groups(axes)


@dataclass(frozen=True)
class _Solved:
    """A formula with all its numbers; scale and bias of the input's rank."""

    groups: _Groups
    divisor: _Divisor
    epsilon: float
    scale: Array
    bias: Array

    def agrees(self, compute: Compute, x: Array) -> bool:
        """Whether the formula gives the results of the layer for these inputs."""
        divided, square = self.groups.parts(x, self.divisor)
        bounded = np.maximum(square, self.epsilon)
        normalized = divided / np.sqrt(
            bounded if self.divisor == "length" else square + self.epsilon
        )
        expected, results = normalized * self.scale + self.bias, compute(x)
        typical = np.sqrt(np.nanmean(np.square(normalized)))
        allowed = (np.abs(normalized) + typical) * np.abs(self.scale) + np.abs(self.bias)
        close = np.abs(results - expected) <= _TOLERANCE * allowed + 1e-12
        undefined = np.isnan(expected)
        return bool(np.where(undefined, np.isnan(results), close).all())

    def formula(self, input_shape: Shape) -> Formula:
        """What an adapter would say of the layer."""
        shape = np.broadcast_shapes(self.scale.shape, self.bias.shape)
        scale, bias = (np.broadcast_to(values, shape) for values in (self.scale, self.bias))
        has_scale, has_bias = not np.allclose(scale, 1, rtol=1e-12), bias.any()
        varying = {axis for axis, size in enumerate(shape) if size > 1}
        axes: tuple[int, ...] = self.groups.axes
        operator, channel, spread = _OPERATORS[self.divisor], self._channel(input_shape), None
        if self.groups.blocked is not None:
            operator, axes = "GroupNormalization", (self.groups.blocked,)
        elif channel is not None and varying <= {channel} and (varying or len(input_shape) > 3):
            if self.divisor == "variance":
                operator, axes = "InstanceNormalization", (channel,)
            elif self.divisor == "mean square" and axes == (1, 2):
                operator = "FilterResponseNormalization"
        if operator == "GroupNormalization" and self.divisor != "variance":
            raise NoFormulaError("blocks of an axis are normalized by their variance only")
        if operator == "GroupNormalization" and not varying <= set(axes):
            raise NoFormulaError("its scale or bias is not one value for each channel")
        if operator in ("GroupNormalization", "InstanceNormalization"):
            size = input_shape[axes[0]] or 1
            scale, bias = (np.broadcast_to(v.reshape(-1), size) for v in (scale, bias))
        elif has_scale or has_bias:
            spread = shape[min(varying, default=len(shape) - 1) :]
        return Formula(
            operator,
            axes,
            self.epsilon,
            scale if has_scale else None,
            bias if has_bias else None,
            groups=self.groups.count,
            subtract_mean=self.divisor == "variance",
            parameter_shape=spread,
        )

    def _channel(self, input_shape: Shape) -> int | None:
        """The axis along which alone nothing is normalized, of known size."""
        others = [
            axis
            for axis, size in enumerate(input_shape)
            if axis and size != 1 and axis not in self.groups.axes
        ]
        return others[0] if len(others) == 1 and input_shape[others[0]] else None


def _solve(
    answers: _Answers, groups: _Groups, divisor: _Divisor, input_shape: Shape
) -> _Solved | None:
    """The numbers with which a formula gives the answers; None where no numbers do."""
    product = power = np.zeros(())
    for x, y in answers.large:
        divided, square = groups.parts(x, divisor)
        normalized = divided / np.sqrt(square)
        product = product + (y * normalized).sum(0, keepdims=True)
        power = power + np.square(normalized).sum(0, keepdims=True)
    scale = product / power
    epsilon = _epsilon(answers, groups, divisor, scale)
    parameters = [_varying(values, input_shape) for values in (scale, answers.bias)]
    if epsilon is None or parameters[0] is None or parameters[1] is None:
        return None
    return _Solved(groups, divisor, epsilon, parameters[0], parameters[1])


def _epsilon(answers: _Answers, groups: _Groups, divisor: _Divisor, scale: Array) -> float | None:
    """Where it is as large as the square, the result shows it best."""
    best: tuple[float, float] | None = None
    for x, y in answers.small:
        divided, square = groups.parts(x, divisor)
        # Of small values more than rounding is left nowhere.
        seen = np.abs(divided * scale) >= np.median(np.abs(divided * scale))
        seen &= y != 0
        if not seen.any():
            continue
        total = np.square((divided * scale)[seen] / y[seen])
        part = float(np.median(square[seen] / total))
        value = total if divisor == "length" else total - square[seen]
        if part < 0.99 and (best is None or abs(part - 0.5) < best[0]):
            best = abs(part - 0.5), float(np.median(value))
    if best is None or not 0 < best[1] < 1e6:
        return None
    # The number that the layer was made with, where rounding to float32 is all between them.
    short, long = (float(f"{best[1]:.{digits}g}") for digits in (6, 12))
    return short if math.isclose(short, long, rel_tol=1e-7) else long


def _varying(values: Array, input_shape: Shape) -> Array | None:
    """One value for all places of an axis along which they are the same, as of unknown sizes."""
    for axis, size in enumerate(input_shape):
        first = values.take([0], axis)
        if np.allclose(values, first, rtol=1e-9, atol=1e-12):
            values = first
        elif size is None:
            return None
    return values if np.isfinite(values).all() else None


def _probes(
    shape: tuple[int, ...], solved: _Solved, generator: np.random.Generator
) -> Iterator[Array]:
    """Inputs on which formulas differ that are the same on others."""
    x = generator.normal(size=shape)
    yield x
    yield 1e3 + x
    yield x * np.exp(generator.normal(size=shape)) + 10 * generator.normal(size=shape[-1:])
    count = math.prod(shape[axis] for axis in solved.groups.axes) / solved.groups.count
    for factor in (0.1, 1, 3):
        yield x * factor * math.sqrt(solved.epsilon)
        yield x * factor * math.sqrt(solved.epsilon / count)
    yield np.where(generator.random(shape) < 0.1, 1e4 * x, x)
    spiked = x.copy()
    spiked.reshape(shape[0], -1)[:, 0] = 1e5 * (-1) ** np.arange(shape[0])
    yield spiked
    yield np.full(shape, 4.0)
    undefined = x.copy()
    undefined.reshape(-1)[generator.integers(x.size)] = np.nan
    yield undefined
