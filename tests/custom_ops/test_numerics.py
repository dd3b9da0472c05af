"""Every kernel against the float64 reference, at every instruction set level that the CPU has."""

from __future__ import annotations

import itertools
import math
import os
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.custom_ops.cases import (
    ADVERSARIAL,
    GROUP,
    INSTANCE,
    LARGE,
    LAYER,
    OVER_AXES,
    RESPONSE,
    RMS,
    UNIT,
    adversarial,
    parameter_shape,
)
from tests.custom_ops.levels import LEVELS, rerun_at
from tests.custom_ops.nodes import (
    ELEMENT_TYPES,
    Array,
    assert_close,
    reference,
    run,
    session,
    stored,
    wrap,
)

ELEMENTS = sorted(ELEMENT_TYPES)


def parameters(seed: int, shape: tuple[int, ...], element: str) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return (
        stored(np.asarray(rng.standard_normal(shape) + 0.5), element),
        stored(np.asarray(rng.standard_normal(shape)), element),
    )


def values(
    seed: int, shape: tuple[int, ...], element: str, mean: float = 0.0, spread: float = 1.0
) -> Array:
    return stored(np.random.default_rng(seed).standard_normal(shape) * spread + mean, element)


def check(
    operator: str,
    shape: tuple[int, ...],
    parameter_shape: tuple[int, ...],
    element: str = "float32",
    mean: float = 0.0,
    spread: float = 1.0,
    seed: int = 0,
    **attributes: Any,
) -> None:
    x = values(seed, shape, element, mean, spread)
    scale, bias = parameters(seed + 1, parameter_shape, element)
    y = run(operator, x, scale, bias, element, **attributes)
    assert_close(operator, y, x, scale, bias, element, **attributes)


shapes = st.integers(2, 5).flatmap(
    lambda rank: (
        st.lists(
            st.one_of(st.integers(1, 9), st.sampled_from([0, 16, 17, 33, 70])),
            min_size=rank,
            max_size=rank,
        )
        .map(tuple)
        .filter(lambda shape: math.prod(shape) < 40_000)
    )
)
#: Fewer in the processes that test_instruction_set_levels starts.
property_test = settings(
    max_examples=40 if os.environ.get("ONNXNORM_ISA") else 120,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


@property_test
@given(data=st.data())
def test_group_and_instance_normalization(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    axis = data.draw(st.integers(1, len(shape) - 1))
    channels = shape[axis]
    groups = data.draw(st.sampled_from([g for g in range(1, 71) if channels % g == 0]))
    operator = data.draw(st.sampled_from([GROUP, INSTANCE]))
    check(
        operator,
        shape,
        (channels,),
        element=data.draw(st.sampled_from(ELEMENTS)),
        mean=data.draw(st.sampled_from([0.0, 1.0, 100.0])),
        seed=data.draw(st.integers(0, 1000)),
        axis=data.draw(st.sampled_from([axis, axis - len(shape)])),
        epsilon=data.draw(st.sampled_from([1e-5, 1e-3])),
        **({"num_groups": groups} if operator == GROUP else {}),
    )


@property_test
@given(data=st.data())
def test_normalization_over_any_axes(data: st.DataObject) -> None:
    operator, attributes = data.draw(st.sampled_from(OVER_AXES))
    shape = data.draw(shapes)
    rank = len(shape)
    axes = data.draw(st.sets(st.integers(0, rank - 1), min_size=1))
    kept = data.draw(st.integers(0, rank))
    parameter_shape = tuple(
        extent if data.draw(st.booleans()) else 1 for extent in shape[rank - kept :]
    )
    check(
        operator,
        shape,
        parameter_shape,
        element=data.draw(st.sampled_from(ELEMENTS)),
        mean=data.draw(st.sampled_from([0.0, 1.0, 100.0])),
        seed=data.draw(st.integers(0, 1000)),
        axes=[axis - rank if data.draw(st.booleans()) else axis for axis in sorted(axes)],
        epsilon=data.draw(st.sampled_from([1e-5, 1e-3])),
        **attributes,
    )


@pytest.mark.parametrize("seed", range(8))
def test_large_at_random(seed: int) -> None:
    """Axes, scale and bias in all combinations, of extents that the kernels' ways part at."""
    rng = np.random.default_rng(seed)
    for number in range(40 if os.environ.get("ONNXNORM_ISA") else 120):
        rank = rng.integers(1, 6)
        extents = rng.choice([1, 2, 3, 4, 5, 7, 8, 16, 17, 33, 64, 129, 300, 1025], rank)
        while math.prod(extents) > 400_000:
            extents[rng.integers(rank)] = rng.integers(1, 5)
        shape = tuple(int(extent) for extent in extents)
        varies, biases_vary = rng.integers(0, 2, (2, rank))
        sizes = [tuple(np.where(varies, shape, 1)), tuple(np.where(biases_vary, shape, 1))]
        x = values(number, shape, "float32", mean=rng.choice([0.0, 100.0]))
        scale, bias = (values(number, size, "float32") for size in (sizes[0], rng.choice(sizes)))
        axes = [int(axis) for axis in np.flatnonzero(rng.integers(0, 2, rank))] or [0]
        y = run(LAYER, x, scale, bias, axes=axes)
        assert_close(LAYER, y, x, scale, bias, "float32", axes=axes)


@pytest.mark.parametrize("mean", [0.0, 1e4])
@pytest.mark.parametrize("case", LARGE)
def test_large(case: str, mean: float) -> None:
    operator, shape, attributes = LARGE[case]
    check(operator, shape, parameter_shape(operator, shape, attributes), mean=mean, **attributes)


@pytest.mark.parametrize("element", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("case", ["channels last, segments", "channels first, segments", "rows"])
def test_large_of_other_types(case: str, element: str) -> None:
    operator, shape, attributes = LARGE[case]
    sizes = parameter_shape(operator, shape, attributes)
    check(operator, shape, sizes, element=element, mean=3.0, **attributes)


@pytest.mark.parametrize("shape", [(2, 3, 70, 80), (1, 5, 4, 3)])
@pytest.mark.parametrize("parameters_of", list(itertools.product([False, True], repeat=4)))
def test_scale_of_any_broadcastable_shape(shape: Any, parameters_of: tuple[bool, ...]) -> None:
    sizes = tuple(n if keep else 1 for n, keep in zip(shape, parameters_of, strict=True))
    for axes in ([3], [1], [2, 3], [1, 2], [0, 1, 2, 3]):
        check(LAYER, shape, sizes, axes=axes)


def test_scale_and_bias_broadcast_differently() -> None:
    x = values(0, (4, 5, 6), "float32")
    scale, bias = values(1, (5, 1), "float32"), values(2, (4, 1, 6), "float32")
    y = run(LAYER, x, scale, bias, axes=[1, 2])
    assert_close(LAYER, y, x, scale, bias, "float32", axes=[1, 2])


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3, 1e4])
@pytest.mark.parametrize(
    "case",
    [
        "the MNIST layer",
        "channels last, segments",
        "rows",
        "odd rows",
        "channels first, segments",
        "channels first, small images",
        "outer and inner axes",
        "every other axis",
    ],
)
def test_constant_input_gives_exactly_the_bias(case: str, constant: float, element: str) -> None:
    operator, shape, attributes = LARGE[case]
    sizes = parameter_shape(operator, shape, attributes)
    x = stored(np.full(shape, constant), element)
    scale, bias = parameters(0, sizes, element)
    y = run(operator, x, scale, bias, element, **attributes)
    channel = [1] * len(shape)
    axis = attributes.get("axis", -1)
    channel[axis] = shape[axis]
    np.testing.assert_array_equal(y, np.broadcast_to(bias.reshape(channel), shape))


@pytest.mark.parametrize("element", ELEMENTS)
def test_one_element_per_group_gives_exactly_the_bias(element: str) -> None:
    x = values(0, (3, 5), element, mean=100.0)
    scale, bias = parameters(1, (5,), element)
    y = run(INSTANCE, x, scale, bias, element, axis=1)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, (3, 5)))


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (2, 4, 0), (0, 0), (2, 0)])
def test_empty(shape: tuple[int, ...]) -> None:
    parameters_ = np.ones(shape[1], np.float32)
    x = np.zeros(shape, np.float32)
    assert run(GROUP, x, parameters_, parameters_, axis=1, num_groups=2).shape == shape
    assert run(INSTANCE, x, parameters_, parameters_, axis=1).shape == shape
    one = np.ones(1, np.float32)
    for operator, attributes in OVER_AXES:
        assert run(operator, x, one, one, axes=[-1], **attributes).shape == shape


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["first", "middle"])
@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize(
    "case",
    [
        "the MNIST layer",
        "channels last, segments",
        "rows",
        "columns",
        "channels first, segments",
        "odd rows",
        "short rows",
        "short rows, RMS",
        "filter response, segments",
        "rows, unit",
    ],
)
def test_a_value_that_is_not_finite_stays_in_its_group(
    case: str, element: str, place: str, bad: float
) -> None:
    operator, shape, attributes = LARGE[case]
    x = values(0, shape, element)
    scale, bias = parameters(1, parameter_shape(operator, shape, attributes), element)
    clean = run(operator, x, scale, bias, element, **attributes)
    at = tuple(0 if place == "first" else n // 2 for n in shape)
    x[at] = bad
    y = run(operator, x, scale, bias, element, **attributes)
    touched = np.zeros(shape, bool)
    if "axes" in attributes:
        selector: list[Any] = list(at)
        for axis in attributes["axes"]:
            selector[axis] = slice(None)
    else:
        axis = attributes["axis"] % len(shape)
        channels = shape[axis] // attributes.get("num_groups", shape[axis])
        selector = [slice(None)] * len(shape)
        selector[0] = at[0]
        first = at[axis] // channels * channels
        selector[axis] = slice(first, first + channels)
    touched[tuple(selector)] = True
    assert np.isnan(y[at])
    expected = reference(operator, x, scale, bias, **attributes)
    np.testing.assert_array_equal(np.isnan(y[touched]), np.isnan(expected[touched]))
    np.testing.assert_array_equal(y[~touched], clean[~touched])


@pytest.mark.parametrize(
    "case",
    [
        "the MNIST layer",
        "channels first, segments",
        "long rows",
        "channels last, segments",
        "rows",
        "short rows",
        "columns",
        "rows, uncentered",
        "rows, RMS",
        "short rows, RMS",
        "long rows, RMS",
        "columns, unit",
        "rows, unit",
        "filter response",
        "filter response, segments",
    ],
)
@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_adversarial_groups(case: str, kind: str) -> None:
    operator, shape, attributes = LARGE[case]
    x = adversarial(case, kind)
    scale, bias = parameters(0, parameter_shape(operator, shape, attributes), "float32")
    y = run(operator, x, scale, bias, **attributes)
    assert_close(operator, y, x, scale, bias, "float32", **attributes)


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize(
    "case", [case for case in LARGE if LARGE[case][0] in (RMS, UNIT, RESPONSE)]
)
def test_zeros_give_exactly_the_bias(case: str, element: str) -> None:
    operator, shape, attributes = LARGE[case]
    scale, bias = parameters(0, (shape[-1],), element)
    y = run(operator, np.zeros_like(scale, shape=shape), scale, bias, element, **attributes)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, shape))


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("constant", [1.0, -1e4, 1e-6])
@pytest.mark.parametrize("shape", [(30, 1), (30, 7), (30, 97), (3, 9000), (30, 5, 70)])
@pytest.mark.parametrize(("operator", "attributes"), OVER_AXES[1:])
def test_constant_groups_keep_their_mean(
    operator: str, attributes: dict[str, Any], shape: tuple[int, ...], constant: float, element: str
) -> None:
    """Without a spread nothing but the mean is left: it must come through to the last bits."""
    x = stored(np.full(shape, constant), element)
    scale, bias = parameters(1, (1,), element)
    for epsilon in (1e-12, 0.0) if attributes == {} else (1.0,):
        y = run(operator, x, scale, bias, element, axes=[1], epsilon=epsilon, **attributes)
        expected = {"axes": [1], "epsilon": epsilon, **attributes}
        assert_close(operator, y, x, scale, bias, element, **expected)


@pytest.mark.parametrize("shape", [(30, 7), (30, 97), (3, 90_000), (3, 80, 70)])
@pytest.mark.parametrize("spread", [0.0, 1e19])
def test_squares_beyond_float(shape: tuple[int, ...], spread: float) -> None:
    x = values(0, shape, "float32", mean=1e20, spread=spread)
    scale, bias = parameters(1, (1,), "float32")
    for operator in (RMS, UNIT):
        y = run(operator, x, scale, bias, axes=[1])
        assert_close(operator, y, x, scale, bias, "float32", axes=[1])


@pytest.mark.parametrize("depth", [96, 768, 50_000])
def test_no_further_from_the_oracle_than_onnx_runtime(depth: int) -> None:
    """Its LayerNormalization, to a unit in the last place; ten times closer at the last mean."""
    scale, bias = np.ones(depth, np.float32), np.zeros(depth, np.float32)
    options: dict[str, Any] = {"axes": [-1], "epsilon": 1e-3}
    for mean in (0.0, 1e2, 1e3, 1e4):
        x = values(int(mean), (64, depth), "float32", mean=mean)
        exact = reference(LAYER, x, scale, bias, **options)
        ours = np.abs(run(LAYER, x, scale, bias, **options) - exact).max()
        theirs = np.abs(standard_layer_normalization(x, scale, bias, 1e-3) - exact).max()
        unit = float(np.spacing(np.abs(exact).max().astype(np.float32)))
        assert ours <= (theirs / 10 if mean == 1e4 else theirs + unit), mean


def standard_layer_normalization(x: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    """The operator of ONNX, in ONNX Runtime's kernel."""
    node = onnx.helper.make_node(
        "LayerNormalization", ["x", "scale", "bias"], ["y"], epsilon=epsilon
    )
    given = {"x": x, "scale": scale, "bias": bias}
    inputs, outputs = (
        [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape)
            for name, array in arrays.items()
        ]
        for arrays in (given, {"y": x})
    )
    graph = onnx.helper.make_graph([node], "standard", inputs, outputs)
    y: Array = session(wrap(graph)).run(None, given)[0]
    return y


def test_half_precision_near_its_largest_value() -> None:
    for element, mean in (("float16", 6e4), ("bfloat16", 3e38)):
        check(GROUP, (4, 20, 16), (16,), element, mean=mean, spread=mean / 60, axis=2, num_groups=4)


@pytest.mark.parametrize("element", ["float16", "bfloat16"])
def test_results_are_rounded_to_nearest_even(element: str) -> None:
    """Mean 0 and variance 1 exactly, so that y = x * scale + bias before it is rounded."""
    x = np.zeros((17, 4096), np.float32)
    x[:8] = np.array([2, 2, -2, -2, 0.5, 0.5, -0.5, -0.5], np.float32)[:, None]
    rng = np.random.default_rng(0)
    bits = rng.integers(1, 0x7BFF if element == "float16" else 0x7F00, (2, 4096), np.uint16)
    if element == "float16":
        scale, bias = bits.view(np.float16)
        bias[:1000] = 0  # halves of subnormals among them
        scale[:500] = bits.view(np.float16)[0, :500] * np.float16(2.0**-14)
        x, exact = x.astype(np.float16), x * scale.astype(np.float32) + bias.astype(np.float32)
    else:
        bits[0, :500] &= 0x80FF  # subnormal, or twice as large at most
        bits[1, :500] = 0
        scale, bias = (bits.astype(np.uint32) << 16).view(np.float32)
        bias[1000:] = scale[1000:] * np.float32(2.0**-8)  # ties
        bias = stored(bias, element)
        exact = x * scale + bias
    y = run(LAYER, x, scale, bias, element, axes=[0], epsilon=0.0)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(y, stored(exact, element))


@pytest.mark.parametrize("case", LARGE)
def test_threads_do_not_change_a_bit(case: str) -> None:
    operator, shape, attributes = LARGE[case]
    x = values(3, shape, "float32", mean=5.0)
    scale, bias = parameters(4, parameter_shape(operator, shape, attributes), "float32")
    results = [run(operator, x, scale, bias, threads=n, **attributes) for n in (1, 2, 4)]
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()


@pytest.mark.parametrize("level", LEVELS)
def test_instruction_set_levels(level: str) -> None:
    selected = "normalization or other_types or nearest_even or half_precision or adversarial"
    rerun_at(level, __file__, f"{selected} or at_random or beyond or no_further")
