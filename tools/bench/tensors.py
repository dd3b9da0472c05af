"""The numbers that every peer normalizes, what has to come out, and whether it did."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxnorm.opset.activations import ACTIVATIONS
from tools.bench.cases import EPSILON, LAST, Layer

Array = NDArray[Any]
SAMPLES = 4099
_CACHE_LINE = 64
# The largest error of an element, of some six at most; storage types round input and output.
_TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 2e-1}
_PARAMETERS = {"Clip": (0.0, 6.0)}


def parameters(activation: str) -> tuple[float, ...]:
    """What a node has of an activation's parameters."""
    return _PARAMETERS.get(activation) or tuple(ACTIVATIONS[activation].parameters.values())


def x(layer: Layer) -> NDArray[np.float32]:
    """The tensor, in the layer's layout."""
    values = np.random.default_rng(0).standard_normal(layer.shape, np.float32)
    return np.ascontiguousarray(np.moveaxis(values, -1, layer.axis))


def residual(layer: Layer) -> NDArray[np.float32]:
    """What is added, in the layer's layout."""
    return np.ascontiguousarray(x(layer)[::-1])


def scale(layer: Layer) -> NDArray[np.float32]:
    """One factor for each channel."""
    return np.random.default_rng(1).uniform(0.5, 1.5, layer.channels).astype(np.float32)


def bias(layer: Layer) -> NDArray[np.float32]:
    """One summand for each channel."""
    return np.random.default_rng(2).uniform(-0.5, 0.5, layer.channels).astype(np.float32)


def expected(layer: Layer) -> NDArray[np.float64]:
    """Samples of the layer's output, computed in float64."""
    return _expected(replace(layer, layout=LAST, element="float32"))


@lru_cache(maxsize=64)
def _expected(layer: Layer) -> NDArray[np.float64]:
    values = x(layer).astype(np.float64)
    groups = layer.channels if layer.norm == "instance" else layer.groups
    if layer.norm == "layer":
        grouped, axes = values, (-1,)
    else:
        sizes = (layer.shape[0], -1, groups, layer.channels // groups)
        grouped, axes = values.reshape(sizes), (1, 3)
    deviation = grouped - grouped.mean(axes, keepdims=True)
    variance = np.mean(deviation**2, axes, keepdims=True)
    normalized = (deviation / np.sqrt(variance + EPSILON)).reshape(layer.shape)
    found = samples(normalized * scale(layer) + bias(layer))
    if layer.residual:
        found = found + samples(residual(layer))
    if layer.activation:
        found = ACTIVATIONS[layer.activation](found, *parameters(layer.activation))
    return found


def aligned(values: Array) -> Array:
    """A copy that starts at a cache line, as tensors do that a runtime has allocated."""
    memory = np.empty(values.nbytes + _CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % _CACHE_LINE
    copy = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def samples(values: Array) -> NDArray[np.float64]:
    """Elements from all over a tensor with its channels last."""
    flat = values.reshape(-1)
    # A step that has no factor in common with the channels meets all of them.
    steps = itertools.count(max(1, flat.size // SAMPLES))
    step = next(step for step in steps if math.gcd(step, values.shape[-1]) == 1)
    return flat[::step].astype(np.float64)


def tolerance(element: str) -> float:
    """How far an element may be from the oracle."""
    return _TOLERANCE[element]


def judge(
    found: NDArray[np.float64], wanted: NDArray[np.float64], allowed: float
) -> tuple[float, str]:
    """The largest error, and what is wrong; empty when nothing is."""
    if found.shape != wanted.shape:
        return float("inf"), f"wrong: {found.size} elements, not {wanted.size}"
    error = float(np.max(np.abs(found - wanted)))
    # A NaN is beyond too.
    return error, "" if error <= allowed else f"wrong: off by {error:.1e}"
