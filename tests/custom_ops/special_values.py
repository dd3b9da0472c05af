"""Groups that hold special values, and how results compare with the float64 oracle for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tests.custom_ops.cases import GROUP, INSTANCE, LAYER, RESPONSE, RMS, UNIT
from tests.custom_ops.nodes import ROUNDING, Array, stored

INF, NAN = np.inf, np.nan

#: The operators, and what else their nodes say.
NODES: dict[str, tuple[str, dict[str, Any]]] = {
    "group": (GROUP, {"num_groups": 8}),
    "instance": (INSTANCE, {}),
    "layer": (LAYER, {}),
    "layer, uncentered": (LAYER, {"subtract_mean": 0}),
    "rms": (RMS, {}),
    "filter response": (RESPONSE, {}),
    "unit": (UNIT, {}),
}

_LARGEST = {"float32": 3e38, "float16": 65504.0, "bfloat16": 3e38, "float64": 1e300}
_SUBNORMAL = {"float32": 1e-40, "float16": 3e-7, "bfloat16": 1e-39, "float64": 5e-310}


def _at(group: Array, *values: float) -> Array:
    """The group with values at places all over it."""
    places = np.linspace(0, group.size - 1, len(values) + 1).astype(int)[1:]
    group[places] = values
    return group


#: Those whose squares leave float32: the kernels on the CPU have double for them. What computes in
#: float32, the function bodies and the kernels for CUDA, has infinite squares there.
BEYOND_FLOAT32 = ("largest", "one of the largest", "1e30", "1e30 and inf")

#: Group of normal values, element type -> group with special values.
GROUPS: Mapping[str, Callable[[Array, str], Array]] = {
    "inf": lambda g, _: _at(g, INF),
    "inf first": lambda g, _: np.concatenate([[INF], g[1:]]),
    "-inf": lambda g, _: _at(g, -INF),
    "both infinities": lambda g, _: _at(g, INF, -INF),
    "all inf": lambda g, _: np.full_like(g, INF),
    "nan": lambda g, _: _at(g, NAN),
    "inf and nan": lambda g, _: _at(g, INF, NAN),
    "zeros": lambda g, _: np.zeros_like(g),
    "constant": lambda g, _: np.full_like(g, 3.0),
    "largest": lambda g, element: np.sign(g) * _LARGEST[element],
    "one of the largest": lambda g, element: _at(g, _LARGEST[element]),
    "1e30": lambda g, _: g * 1e30,
    "1e30 and inf": lambda g, _: _at(g * 1e30, INF),
    "1e-25": lambda g, _: g * 1e-25,
    "subnormal": lambda g, element: np.sign(g) * _SUBNORMAL[element],
}


def inputs_of(
    node: str,
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    element: str,
    without: tuple[str, ...] = (),
) -> Iterator[tuple[list[str], tuple[Array, Array, Array]]]:
    """X, scale and bias as often as it takes for every kind of group to stand beside another.

    ``axes`` are those of the statistics, or the channel axis of a group or instance norm.
    """
    operator, attributes = NODES[node]
    rng = np.random.default_rng(0)
    if operator in (GROUP, INSTANCE):
        (axis,) = axes
        groups = attributes.get("num_groups", shape[axis])
        inside = (groups, shape[axis] // groups)
        view = (shape[0], math.prod(shape[1:axis]), *inside, math.prod(shape[axis + 1 :]))
        reduced: tuple[int, ...] = (1, 3, 4)
    else:
        view, axis, reduced = shape, -1, axes
    kept = [a for a in range(len(view)) if a not in reduced]
    order = (*kept, *reduced)
    count = math.prod(view[a] for a in kept)
    kinds = [kind for kind in GROUPS if kind not in without]
    for first in range(0, len(kinds), count):
        names = [*kinds[first : first + count], "normal"]
        x = rng.standard_normal((count, math.prod(view[a] for a in reduced)))
        with np.errstate(all="ignore"):
            for number in range(count):
                name = names[number % len(names)]
                if name in GROUPS:
                    x[number] = GROUPS[name](x[number], element)
            x = x.reshape([view[a] for a in order]).transpose(np.argsort(order)).reshape(shape)
            scale, bias = rng.uniform(0.5, 1.5, (2, shape[axis]))
            yield names, (stored(x, element), stored(scale, element), stored(bias, element))


def assert_agrees(y: Array, expected: Array, element: str, named: str = "") -> None:
    """NaN and infinities in the same places, and finite values close, each by its own magnitude.

    ``expected`` in float64; what the element type does not hold is infinite in it.
    """
    with np.errstate(all="ignore"):
        held = stored(expected, element).astype(np.float64)
    given = y.astype(np.float64)
    np.testing.assert_array_equal(np.isnan(given), np.isnan(held), named)
    infinite = np.isinf(held) | np.isinf(given)
    # One rounding from the largest value to infinity and back.
    both = np.sign(given[infinite]) == np.sign(held[infinite])
    assert both.all(), named
    finite = np.isfinite(held) & np.isfinite(given)
    compute = ROUNDING["float64" if element == "float64" else "float32"]
    rounding = 64 * compute + 2 * ROUNDING[element]
    np.testing.assert_allclose(given[finite], held[finite], rounding, rounding, err_msg=named)
