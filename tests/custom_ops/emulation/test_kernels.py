"""The CUDA kernels against the float64 oracle, in the emulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxnorm.opset.activations import ACTIVATIONS
from tests.custom_ops.cases import ADVERSARIAL, LARGE, adversarial, parameter_shape
from tests.custom_ops.nodes import Array, assert_close, reference, stored
from tools.cuda_cases import CASES, Case
from tools.emulated import ELEMENTS, KINDS, ORDERS, Machine, run

#: Small, so that few elements make many chunks.
SMALL = {"multiprocessors": 4, "shared_per_block": 40 << 10}


def stored_values(case: Case, element: str, mean: float) -> tuple[Array, Array, Array]:
    x, scale, bias = case.values(mean)
    return stored(x, element), stored(scale, element), stored(bias, element)


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("way", CASES)
def test_ways(way: str, element: str) -> None:
    case = CASES[way]
    given = stored_values(case, element, mean=3.0)
    y, launch = run(case.operator, *given, element, machine=Machine(**SMALL), **case.attributes)
    assert_close(case.operator, y, *given, element, **case.attributes)
    if element == "float32":
        assert launch.method == case.method


@pytest.mark.parametrize("mean", [0.0, 1e2, 1e4])
@pytest.mark.parametrize("way", CASES)
def test_large_means(way: str, mean: float) -> None:
    case = CASES[way]
    given = stored_values(case, "float32", mean)
    y, _ = run(case.operator, *given, machine=Machine(**SMALL), **case.attributes)
    assert_close(case.operator, y, *given, "float32", **case.attributes)


@pytest.mark.parametrize("case", LARGE)
def test_the_cases_of_the_cpu(case: str) -> None:
    operator, shape, attributes = LARGE[case]
    rng = np.random.default_rng(0)
    sizes = parameter_shape(operator, shape, attributes)
    given = (
        stored(rng.normal(size=shape) + 1e4, "float32"),
        stored(rng.normal(size=sizes) + 0.5, "float32"),
        stored(rng.normal(size=sizes), "float32"),
    )
    y, _ = run(operator, *given, **attributes)
    assert_close(operator, y, *given, "float32", **attributes)


# Squares that leave float32 are for the CPU, which has double for them.
@pytest.mark.parametrize("kind", [kind for kind in ADVERSARIAL if kind != "beyond squares"])
@pytest.mark.parametrize("case", ["the MNIST layer", "rows, RMS", "columns", "filter response"])
def test_adversarial_groups(case: str, kind: str) -> None:
    operator, shape, attributes = LARGE[case]
    x = adversarial(case, kind)
    sizes = parameter_shape(operator, shape, attributes)
    scale, bias = np.full(sizes, 0.7, np.float32), np.full(sizes, -0.2, np.float32)
    y, _ = run(operator, x, scale, bias, **attributes)
    assert_close(operator, y, x, scale, bias, "float32", **attributes)


@pytest.mark.parametrize("order", ORDERS[1:])
@pytest.mark.parametrize("way", CASES)
def test_result_does_not_depend_on_the_order_of_threads(way: str, order: str) -> None:
    case = CASES[way]
    given = stored_values(case, "float16", mean=1.0)
    forward, other = (
        run(case.operator, *given, "float16", machine=machine, **case.attributes)[0]
        for machine in (Machine(**SMALL), Machine(order, seed=5, **SMALL))
    )
    np.testing.assert_array_equal(forward.view(np.uint16), other.view(np.uint16))


@pytest.mark.parametrize("stage", ["output", "input"])
@pytest.mark.parametrize("way", CASES)
def test_residual_and_activation(way: str, stage: str) -> None:
    case = CASES[way]
    x, scale, bias = stored_values(case, "float32", mean=0.0)
    residual = stored(np.random.default_rng(3).normal(size=case.shape), "float32")
    fused = {"activation": "LeakyRelu", "activation_params": [0.25], "residual_stage": stage}
    attributes = {**case.attributes, **fused}
    small = Machine(**SMALL)
    y, _ = run(case.operator, x, scale, bias, residual=residual, machine=small, **attributes)
    normalized = x + residual if stage == "input" else x
    before = reference(case.operator, normalized, scale, bias, **case.attributes)
    expected = before if stage == "input" else before + residual
    expected = np.where(expected < 0, 0.25 * expected, expected)
    allowed = 2e-6 * (1 + np.abs(before).max())
    assert np.abs(y - expected).max() <= allowed


@pytest.mark.parametrize(("onto", "stage"), [("x", "input"), ("residual", "output")])
@pytest.mark.parametrize("way", CASES)
def test_output_in_the_memory_of_an_input(way: str, onto: str, stage: str) -> None:
    case = CASES[way]
    given = stored_values(case, "float32", mean=0.0)
    residual = stored(np.random.default_rng(3).normal(size=case.shape), "float32")
    machine = Machine("shuffled", seed=7, **SMALL)
    attributes = {**case.attributes, "residual_stage": stage}
    apart, inside = (
        run(case.operator, *given, residual=residual, machine=machine, onto=place, **attributes)[0]
        for place in (None, onto)
    )
    np.testing.assert_array_equal(inside, apart)


@pytest.mark.parametrize("element", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        *((name, [0.3] * len(ACTIVATIONS[name].parameters)) for name in ACTIVATIONS),
        ("Clip", [-0.5, 1.5]),
        ("Selu", [1.7, 1.1]),
        ("Swish", [0.0]),
    ],
)
def test_activations(name: str, parameters: list[float], element: str) -> None:
    edges = [-np.inf, -1e4, -90.0, -20.0, -3.0, -1.0, -1e-6, 0.0, 1e-6, 1.0, 3.0, 20.0, 90.0, 1e4]
    # A row of one element normalizes to zero: what is activated is the residual alone.
    residual = np.array([*edges, np.inf, np.nan], element).reshape(-1, 1)
    y, _ = run(
        "LayerNormalization",
        np.ones_like(residual),
        np.ones(1, element),
        np.zeros(1, element),
        element,
        residual=residual,
        activation=name,
        activation_params=parameters,
    )
    expected = ACTIVATIONS[name](residual.astype(np.float64), *parameters)
    rtol = 1e-14 if element == "float64" else 2e-6
    np.testing.assert_allclose(y, expected, rtol=rtol, atol=1e-38)


@pytest.mark.parametrize("element", ELEMENTS)
def test_unaligned_pointers_take_the_short_way(element: str) -> None:
    given = stored_values(CASES["short rows"], element, mean=0.0)
    y, launch = run("LayerNormalization", *given, element, offset=1)
    assert launch.vector == 1
    assert_close("LayerNormalization", y, *given, element)


# Beyond 48 KB a permission is needed, and the arrays of the kernel itself count as the row does.
@pytest.mark.parametrize("depth", [12256, 12288, 12292])
def test_rows_of_all_the_shared_memory_that_needs_no_permission(depth: int) -> None:
    rng = np.random.default_rng(0)
    values = (stored(rng.normal(size=s), "float32") for s in ((8, depth), (depth,), (depth,)))
    x, scale, bias = values
    machine = Machine(shared_per_block=99 << 10)
    y, launch = run("LayerNormalization", x, scale, bias, machine=machine)
    assert launch.method == "rows_in_shared"
    assert_close("LayerNormalization", y, x, scale, bias, "float32")


@pytest.mark.parametrize("operator", ["LayerNormalization", "UnitNormalization"])
def test_constant_rows(operator: str) -> None:
    x = np.full((4, 300), 7.25, np.float32)
    x[1] = 0
    given = (x, np.ones(300, np.float32), np.zeros(300, np.float32))
    y, _ = run(operator, *given)
    assert_close(operator, y, *given, "float32")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_node(data: st.DataObject) -> None:
    rank = data.draw(st.integers(2, 5))
    shape = tuple(data.draw(st.integers(1, 40 if rank < 4 else 9)) for _ in range(rank))
    operator = data.draw(st.sampled_from(KINDS))
    attributes: dict[str, Any] = {}
    if operator in ("GroupNormalization", "InstanceNormalization"):
        attributes["axis"] = data.draw(st.integers(1, rank - 1))
        channels = shape[attributes["axis"]]
        if operator == "GroupNormalization":
            divisors = [n for n in range(1, channels + 1) if channels % n == 0]
            attributes["num_groups"] = data.draw(st.sampled_from(divisors))
    else:
        axes = st.lists(st.integers(0, rank - 1), min_size=1, max_size=rank, unique=True)
        attributes["axes"] = sorted(data.draw(axes))
        if operator == "FilterResponseNormalization":
            attributes["axes"] = [a for a in attributes["axes"] if a < rank - 1] or [0]
    element = data.draw(st.sampled_from(ELEMENTS))
    machine = Machine(
        data.draw(st.sampled_from(ORDERS)),
        seed=data.draw(st.integers(0, 99)),
        multiprocessors=data.draw(st.sampled_from([1, 8, 132])),
        shared_per_block=data.draw(st.sampled_from([17 << 10, 48 << 10, 227 << 10])),
    )
    given = stored_values(Case(operator, shape, "", attributes), element, mean=2.0)
    y, _ = run(operator, *given, element, machine=machine, **attributes)
    assert_close(operator, y, *given, element, **attributes)
