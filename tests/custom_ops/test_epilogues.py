"""The optimized form: activations and residuals in the kernels, at every instruction set level."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxnorm.opset.activations import ACTIVATIONS
from tests.custom_ops.levels import LEVELS, rerun_at
from tests.custom_ops.nodes import ROUNDING, Array, assert_close, reference, run, stored
from tests.custom_ops.test_numerics import (
    ELEMENTS,
    GROUP,
    INSTANCE,
    LARGE,
    LAYER,
    OVER_AXES,
    parameter_shape,
    parameters,
    property_test,
    shapes,
    values,
)

#: Parameters other than the defaults, where there are any.
PARAMETERS: dict[str, list[float]] = {
    "Clip": [-0.5, 1.25],
    "LeakyRelu": [0.3],
    "Elu": [0.7],
    "Selu": [1.5, 1.1],
    "Swish": [1.0],
}
STAGES = ["output", "input"]


def activated(name: str) -> dict[str, Any]:
    if name not in PARAMETERS:
        return {"activation": name}
    return {"activation": name, "activation_params": PARAMETERS[name]}


def check(
    operator: str,
    shape: tuple[int, ...],
    sizes: tuple[int, ...],
    residual_shape: tuple[int, ...] | None,
    element: str = "float32",
    seed: int = 0,
    **attributes: Any,
) -> None:
    x = values(seed, shape, element)
    scale, bias = parameters(seed + 1, sizes, element)
    residual = None
    if residual_shape is not None:
        residual = np.asarray(values(seed + 2, residual_shape, element))
    y = run(operator, x, scale, bias, element, residual=residual, **attributes)
    assert_close(operator, y, x, scale, bias, element, residual, **attributes)


@property_test
@given(data=st.data())
def test_any_epilogue(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    rank = len(shape)
    channels_last = data.draw(st.booleans())
    norms: list[tuple[str, dict[str, Any]]] = [
        (GROUP, {"axis": rank - 1 if channels_last else 1, "num_groups": 1}),
        (INSTANCE, {"axis": rank - 1 if channels_last else 1}),
        *((name, {"axes": [-1] if channels_last else [1], **more}) for name, more in OVER_AXES),
    ]
    operator, attributes = data.draw(st.sampled_from(norms))
    sizes = (shape[attributes["axis"]],) if "axis" in attributes else (1,)
    residual = data.draw(st.sampled_from(["none", "equal", "broadcast"]))
    residual_shape = None if residual == "none" else shape
    if residual == "broadcast":
        kept = data.draw(st.integers(0, rank))
        residual_shape = tuple(n if data.draw(st.booleans()) else 1 for n in shape[rank - kept :])
    activation = data.draw(st.sampled_from(["", *ACTIVATIONS]))
    attributes = {**attributes, "epsilon": 1e-3, **(activated(activation) if activation else {})}
    if residual_shape is not None:
        attributes["residual_stage"] = data.draw(st.sampled_from(STAGES))
    element = data.draw(st.sampled_from(ELEMENTS))
    seed = data.draw(st.integers(0, 1000))
    check(operator, shape, sizes, residual_shape, element, seed, **attributes)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("case", LARGE)
def test_large(case: str, stage: str) -> None:
    operator, shape, attributes = LARGE[case]
    sizes = parameter_shape(operator, shape, attributes)
    check(operator, shape, sizes, shape, residual_stage=stage, **activated("Gelu"), **attributes)


@pytest.mark.parametrize("element", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("case", ["channels last, segments", "channels first, segments", "rows"])
def test_large_of_other_types(case: str, stage: str, element: str) -> None:
    operator, shape, attributes = LARGE[case]
    sizes = parameter_shape(operator, shape, attributes)
    attributes = {**attributes, **activated("Swish"), "residual_stage": stage}
    check(operator, shape, sizes, shape, element, **attributes)


#: Shapes of X, scale and the residual, where Y is larger than X.
LARGER: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "batch": (LAYER, (1, 5, 6), (6,), (4, 5, 6), {}),
    "leading axes": (LAYER, (5, 6), (6,), (3, 4, 5, 6), {}),
    "both": (LAYER, (4, 1, 6), (6,), (5, 1), {}),
    "normalized axis": (LAYER, (4, 5, 1), (1,), (6,), {}),
    "normalized axis, length": ("UnitNormalization", (4, 1), (1,), (4, 6), {}),
    "some normalized axes": (LAYER, (4, 1, 6), (6,), (4, 5, 6), {"axes": [1, 2]}),
    "images": (GROUP, (2, 6, 1, 1), (6,), (2, 6, 7, 8), {"num_groups": 3}),
    "images, channels last": (INSTANCE, (2, 5, 1, 6), (6,), (1, 7, 1), {"axis": 3}),
    "nothing": (LAYER, (1, 6), (6,), (0, 6), {}),
}


@pytest.mark.parametrize("case", LARGER)
def test_a_residual_larger_than_x(case: str) -> None:
    operator, shape, sizes, residual_shape, attributes = LARGER[case]
    check(operator, shape, sizes, residual_shape, **activated("Tanh"), **attributes)


@pytest.mark.parametrize("case", ["batch", "leading axes", "both", "some normalized axes"])
def test_the_broadcast_sum_is_normalized(case: str) -> None:
    operator, shape, sizes, residual_shape, attributes = LARGER[case]
    if case == "leading axes":
        attributes = {"axes": [1, 3]}
    check(operator, shape, sizes, residual_shape, residual_stage="input", **attributes)


def test_a_sum_that_comes_first_is_rounded() -> None:
    """1 + 2^-11 is 1 in float16, and so is the whole row: exactly the bias comes out."""
    x = np.ones((3, 8), np.float16)
    residual = np.full((3, 8), 2.0**-11, np.float16) * (np.arange(8) % 2).astype(np.float16)
    one, zero = np.ones(8, np.float16), np.zeros(8, np.float16)
    y = run(LAYER, x, one, zero, "float16", residual=residual, residual_stage="input")
    np.testing.assert_array_equal(y, 0)


#: Where float's exponentials begin and end, and the edges of the formulas.
EVERYWHERE = np.concatenate(
    [
        np.linspace(-20, 20, 200001),
        np.linspace(-110, 110, 20001),
        np.geomspace(1e-45, 3e38, 4001),
        -np.geomspace(1e-45, 3e38, 4001),
        [0.0, -0.0, np.inf, -np.inf, np.nan],
    ]
)
ULPS = {"float32": 4, "float64": 8}
#: How often an error of the exponent in the lower tail counts, where the exponent is rounded.
STEEPNESS = {
    ("FastGelu", "float32"): lambda x: np.minimum(1.6 * x + 0.072 * x**3, 1000),
    ("FastGelu", "float64"): lambda x: np.minimum(1.6 * x + 0.072 * x**3, 1000),
    ("Gelu", "float64"): lambda x: np.minimum(x**2, 1000),
    ("Swish", "float64"): lambda x: np.minimum(x, 1000),
}


def through_activation(name: str, x: Array, element: str) -> Array:
    """The activation alone: a norm of constant rows is its bias, and the residual is x."""
    zeros = np.zeros_like(x)[None]
    one, zero = np.ones(1, x.dtype), np.zeros(1, x.dtype)
    attributes = activated(name)
    return run(LAYER, zeros, one, zero, element, residual=x[None], axes=[-1], **attributes)[0]


@pytest.mark.parametrize("element", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_over_the_whole_range(name: str, element: str) -> None:
    x = EVERYWHERE.astype(element)
    parameters_ = [float(np.float32(p)) for p in PARAMETERS.get(name, [])]
    expected = ACTIVATIONS[name](x, *parameters_)
    y = through_activation(name, x, element).astype(np.float64)
    unit = 2 * ROUNDING[element]
    with np.errstate(all="ignore"):
        steepness = STEEPNESS.get((name, element), np.ones_like)
        steep = np.maximum(1, steepness(np.abs(x.astype(np.float64))))
        exact = expected.astype(element).astype(np.float64)
        # A gate below the normal numbers is 0.
        allowed = ULPS[element] * unit * steep * np.abs(expected) + 1000 * float(
            np.finfo(element).tiny
        )
        wrong = ~(
            (y == exact) | (np.isnan(y) & np.isnan(exact)) | (np.abs(y - expected) <= allowed)
        )
    assert not wrong.any(), list(zip(x[wrong], y[wrong], expected[wrong], strict=True))[:5]


@pytest.mark.parametrize("alpha", [0.0, -0.0, 1.5, -1.5])
@pytest.mark.parametrize("element", ["float32", "float64"])
def test_swish_ends_in_its_limits(element: str, alpha: float) -> None:
    x = np.array([np.inf, -np.inf, np.nan, 2.0], element)
    zeros, one, zero = np.zeros((1, 4), element), np.ones(1, element), np.zeros(1, element)
    attributes = {"activation": "Swish", "activation_params": [alpha], "axes": [-1]}
    y = run(LAYER, zeros, one, zero, element, residual=x[None], **attributes)[0]
    left, right = x[:2] if alpha == 0 else [0, -np.inf] if alpha < 0 else [np.inf, 0]
    np.testing.assert_array_equal(y[:3], [left, right, np.nan])
    assert math.isclose(y[3], 2 / (1 + math.exp(-2 * alpha)), rel_tol=1e-6)


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("case", ["channels last, segments", "columns", "channels first, segments"])
@pytest.mark.parametrize("stage", STAGES)
def test_threads_do_not_change_a_bit(case: str, stage: str, element: str) -> None:
    operator, shape, attributes = LARGE[case]
    x, residual = values(3, shape, element, mean=5.0), values(5, shape, element)
    scale, bias = parameters(4, parameter_shape(operator, shape, attributes), element)
    attributes = {**attributes, **activated("Selu"), "residual_stage": stage}
    results = [
        run(operator, x, scale, bias, element, threads=n, residual=residual, **attributes)
        for n in (1, 2, 4)
    ]
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()


@pytest.mark.parametrize("stage", STAGES)
def test_a_residual_that_is_not_finite_stays_in_its_place(stage: str) -> None:
    x, residual = values(0, (6, 40), "float32"), values(1, (6, 40), "float32")
    scale, bias = parameters(2, (40,), "float32")
    attributes = {"residual_stage": stage, **activated("Gelu")}
    clean = run(LAYER, x, scale, bias, residual=residual, **attributes)
    residual[2, 7] = np.nan
    y = run(LAYER, x, scale, bias, residual=residual, **attributes)
    touched = np.zeros(x.shape, bool)
    touched[2, 7 if stage == "output" else slice(None)] = True
    assert np.isnan(y[touched]).all()
    np.testing.assert_array_equal(y[~touched], clean[~touched])


def test_one_rounding_in_half_precision() -> None:
    """Norm, residual and activation in float: the result is the nearest half but for ties."""
    x, residual = values(0, (50, 64), "float16"), values(1, (50, 64), "float16")
    scale, bias = parameters(2, (64,), "float16")
    y = run(LAYER, x, scale, bias, "float16", residual=residual, **activated("Gelu"))
    exact = reference(LAYER, x, scale, bias, residual, "float16", **activated("Gelu"))
    assert (y == stored(exact, "float16")).mean() > 0.99
    assert math.isclose(np.abs(y - exact).max(), 0, abs_tol=2.0**-10 * np.abs(exact).max())


@pytest.mark.parametrize("level", LEVELS)
def test_instruction_set_levels(level: str) -> None:
    rerun_at(
        level, __file__, "any_epilogue or whole_range or swish or of_other_types or one_rounding"
    )
