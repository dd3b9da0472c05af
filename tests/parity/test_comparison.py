"""The comparison's arithmetic and verdicts, on plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxnorm.parity.comparison import (
    FLOATS,
    Criterion,
    compare,
    errors,
    half_digits,
    is_distribution,
    spacing,
)

RANDOM = np.random.default_rng(5)
EXACT = RANDOM.normal(size=(16, 10))
KERAS = EXACT.astype(np.float32)


def off_by(ulp: float) -> Any:
    """KERAS with each element about this many ULP away from the oracle."""
    scale = np.sqrt(np.mean(np.square(EXACT)))
    unit = spacing(np.maximum(np.abs(EXACT), scale), "float32")
    return (EXACT + ulp * unit * np.sign(RANDOM.normal(size=EXACT.shape))).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_spacing_is_numpys(dtype: str) -> None:
    values = np.array([1e-9, 0.1, 0.75, 1.0, 1.5, 2.0, 1000.0, 60000.0], dtype)
    assert np.array_equal(spacing(values, dtype), np.spacing(values).astype(np.float64))


def test_half_digits() -> None:
    assert half_digits("float64", "float64") == 2.0**26
    assert half_digits("float16", "float16") == 2.0**5
    assert half_digits("float32", "float16") == 2.0**18
    assert FLOATS == ("bfloat16", "float16", "float32", "float64")


def test_errors_of_known_values() -> None:
    found = errors(np.array([3.0, -4.0, 0.0, 0.0]), np.array([3.5, -4.0, 0.25, 0.0]), "float16")
    rms = 2.5
    assert found.max_absolute == 0.5
    assert found.mean_absolute == 0.75 / 4
    assert found.max_relative == 0.5 / 3
    assert found.mean_relative == pytest.approx((0.5 / 3 + 0.25 / rms) / 4)
    assert found.max_ulp == 0.5 / 2**-9
    assert found.mean_ulp == 0.75 / 2**-9 / 4


def test_values_near_zero_do_not_explode() -> None:
    exact = np.array([1.0, 1e-30])
    assert errors(exact, exact + 1e-8, "float32").max_ulp < 1
    assert errors(np.zeros(3), np.full(3, 1e-8), "float32").max_ulp < 1
    assert errors(np.full(3, 1e300), np.full(3, 1e300), "float64").max_ulp == 0


def test_nonfinite_elements_are_counted() -> None:
    exact = np.array([1.0, np.inf, np.nan, 2.0, np.inf])
    found = errors(exact, np.array([1.0, np.inf, np.nan, np.nan, -np.inf]), "float32")
    assert (found.nonfinite_mismatches, found.max_absolute) == (2, 0.0)
    assert errors(np.array([np.nan]), np.array([1.0]), "float32").nonfinite_mismatches == 1


@pytest.mark.parametrize(("ulp", "passes"), [(1, True), (15, True), (40, False), (4000, False)])
def test_the_floor(ulp: float, passes: bool) -> None:
    assert bool(compare("y", EXACT, KERAS, off_by(ulp))) is passes


@pytest.mark.parametrize(("ulp", "passes"), [(100, True), (390, True), (460, False)])
def test_the_multiple(ulp: float, passes: bool) -> None:
    record = compare("y", EXACT, off_by(100), off_by(ulp))
    assert record.passed is passes
    assert record.allowed_max_ulp == pytest.approx(416, rel=0.01)


def test_the_criterion_is_a_parameter() -> None:
    assert not compare("y", EXACT, KERAS, off_by(15), Criterion(multiple=1, floor_ulp=4))
    assert compare("y", EXACT, KERAS, off_by(40), Criterion(floor_ulp=64))


def test_one_element_off_in_keras_does_not_excuse_all_in_onnxruntime() -> None:
    keras = KERAS.copy()
    keras[0, 0] += np.float32(1e-4)
    record = compare("y", EXACT, keras, off_by(100))
    assert not record
    assert "mean error" in record.reason


def test_a_failure_names_the_place() -> None:
    wrong = KERAS.copy()
    wrong[3, 7] += 1
    record = compare("y", EXACT, KERAS, wrong)
    assert not record
    assert record.worst is not None
    assert record.worst.index == (3, 7)
    assert "worst at [3, 7]" in str(record)


def test_a_doubtful_oracle_is_named() -> None:
    record = compare("y", EXACT + 0.1, KERAS, off_by(1))
    assert not record
    assert "the verdict is not to be trusted" in record.reason


def test_a_noisy_keras_is_no_licence() -> None:
    noisy = (EXACT * (1 + 1e-2)).astype(np.float32)
    near = compare("y", EXACT, noisy, KERAS)
    assert near
    assert "cost Keras its precision" in near.reason
    assert not compare("y", EXACT, noisy, (EXACT * (1 - 2e-3)).astype(np.float32))


def test_a_model_in_half_precision_with_a_float32_output() -> None:
    keras = EXACT.astype(np.float16).astype(np.float32)
    runtime = (EXACT * (1 + 5e-4)).astype(np.float32)
    assert compare("y", EXACT, keras, runtime, precision="float16")


@pytest.mark.parametrize(("ulp", "passes"), [(1, True), (2, True), (3, False), (16, False)])
def test_half_precision_has_a_lower_floor(ulp: int, passes: bool) -> None:
    exact = np.linspace(1, 1.5, 16).astype(np.float16)
    off = (exact + ulp * np.float16(2.0**-10)).astype(np.float16)
    assert bool(compare("y", exact.astype(np.float64), exact, off)) is passes


def test_float64_has_no_finer_oracle() -> None:
    assert compare("y", EXACT, EXACT, EXACT * (1 + 1e-10))
    assert not compare("y", EXACT, EXACT, EXACT * (1 + 1e-6))


def test_overflow_of_the_output_dtype_is_no_mismatch() -> None:
    exact = np.array([1.0, 7e4, -7e4])
    half = np.array([1.0, np.inf, -np.inf], np.float16)
    assert compare("y", exact, half, half)


@pytest.mark.parametrize(
    ("keras", "runtime", "passes"),
    [
        (2.0, np.nan, False),
        (np.nan, np.nan, True),  # overflows inside, in Keras as well
        (np.nan, 2.0, True),
        (np.inf, -np.inf, False),
    ],
)
def test_nonfinite_verdicts(keras: float, runtime: float, passes: bool) -> None:
    results = (np.array([1.0, value], np.float32) for value in (keras, runtime))
    assert bool(compare("y", np.array([1.0, 2.0]), *results)) is passes


@pytest.mark.parametrize(
    ("runtime", "found"),
    [(KERAS[:, :5], "[16, 5]"), (KERAS.T, "[10, 16]"), (KERAS.astype(np.float64), "float64")],
)
def test_unlike_results(runtime: Any, found: str) -> None:
    record = compare("y", EXACT, KERAS, runtime)
    assert not record
    assert found in record.reason
    assert "Keras" in record.reason


def test_nothing_to_compare_is_no_proof() -> None:
    empty = np.zeros((0, 3), np.float32)
    assert "no element" in compare("y", empty, empty, empty).reason


def test_exact_dtypes() -> None:
    values = np.array([[1, 2, 3]])
    assert compare("y", values, values, values).mismatches == 0
    record = compare("y", values, values, np.array([[1, 5, 3]]))
    assert (record.passed, record.mismatches) == (False, 1)
    assert "at [0, 1]" in record.reason
    # A decision that rounding turned in Keras: either answer is right.
    assert compare("y", np.array([1, 2]), np.array([1, 3]), np.array([1, 2]))
    assert compare("y", np.array([True]), np.array([True]), np.array([True]))
    text = np.array([b"\xc3\xa9", b"b"], object)
    assert compare("y", text, text, np.array(["é", "b"], object))
    assert not compare("y", text, text, np.array(["e", "b"], object))


def test_argmax_agreement_of_distributions() -> None:
    exact = np.array([[0.2, 0.8], [0.6, 0.4]])
    keras = exact.astype(np.float32)
    record = compare("y", exact, keras, keras[:, ::-1].copy())
    assert record.argmax_agreement is not None
    assert (record.argmax_agreement.oracle, record.argmax_agreement.keras) == (0.0, 0.0)
    assert compare("y", EXACT, KERAS, KERAS).argmax_agreement is None


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([[0.5, 0.5], [1.0, 0.0]], True),
        ([[0.5, 0.6]], False),
        ([[1.5, -0.5]], False),
        ([[1.0]], False),
        ([[np.nan, 1.0]], False),
    ],
)
def test_what_is_a_distribution(values: list[list[float]], found: bool) -> None:
    assert is_distribution(np.array(values)) is found
