"""Judges one output: Keras and ONNX Runtime, each measured against the float64 oracle.

Plain numpy. What the numbers mean is stated in docs/parity.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxnorm import arguments

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

# Stored fraction bits and exponent of the smallest normal number.
_FORMATS = {
    "bfloat16": (7, -126),
    "float16": (10, -14),
    "float32": (23, -126),
    "float64": (52, -1022),
}
FLOATS = tuple(_FORMATS)
"""Names of the dtypes that are judged by their rounding, the coarsest first."""

_HALVES = ("bfloat16", "float16")
_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Criterion:
    """How far from the oracle ONNX Runtime may be: ``multiple`` times Keras' error + a floor.

    Attributes:
        multiple: how many times as far as Keras.
        floor_ulp: units in the last place allowed on top, even where Keras happens to be exact;
            for float16 and bfloat16 an eighth of it.

    Raises:
        ArgumentError: one of them is no finite number from 0 on.
    """

    multiple: float = 4.0
    floor_ulp: float = 16.0

    def __post_init__(self) -> None:
        for name in ("multiple", "floor_ulp"):
            arguments.number(type(self).__name__, name, getattr(self, name), least=0)


@dataclass(frozen=True)
class Errors:
    """How far one result is from another one.

    Attributes:
        max_absolute: largest |difference| over the elements that are finite in both.
        mean_absolute: its mean.
        max_relative: largest |difference| / max(|value|, root mean square of all values).
        mean_relative: its mean.
        max_ulp: largest |difference| / spacing of the output's dtype at that same denominator.
        mean_ulp: its mean.
        nonfinite_mismatches: elements that are NaN or infinite in one and not the same in the
            other.
    """

    max_absolute: float
    mean_absolute: float
    max_relative: float
    mean_relative: float
    max_ulp: float
    mean_ulp: float
    nonfinite_mismatches: int


@dataclass(frozen=True)
class Worst:
    """The element where ONNX Runtime is furthest from the oracle, in ULP."""

    index: tuple[int, ...]
    oracle: float
    keras: float
    onnxruntime: float


@dataclass(frozen=True)
class ArgmaxAgreement:
    """Share of rows in which ONNX Runtime's largest element is the other party's, 0 to 1."""

    oracle: float
    keras: float


@dataclass(frozen=True)
class OutputRecord:
    """The comparison of one output; true when it passed.

    Attributes:
        name: the output's name.
        dtype: Keras' dtype of it.
        shape: Keras' shape of it.
        passed: the verdict.
        reason: why it failed, or what a reader should know of a pass; else empty.
        allowed_max_ulp: what the criterion allowed as ONNX Runtime's largest error (floats).
        allowed_mean_ulp: the same for the mean.
        keras: Keras against the oracle (floats).
        onnxruntime: ONNX Runtime against the oracle (floats).
        difference: ONNX Runtime against Keras (floats).
        worst: where ONNX Runtime is furthest off (floats).
        argmax_agreement: for outputs that are distributions; informative, not part of the verdict.
        mismatches: elements that are not equal (integers, booleans, strings).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    passed: bool
    reason: str = ""
    allowed_max_ulp: float | None = None
    allowed_mean_ulp: float | None = None
    keras: Errors | None = None
    onnxruntime: Errors | None = None
    difference: Errors | None = None
    worst: Worst | None = None
    argmax_agreement: ArgmaxAgreement | None = None
    mismatches: int | None = None

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        parts = [f"{self.name} {self.dtype}{list(self.shape)}: {verdict}"]
        if self.onnxruntime is not None and self.keras is not None:
            parts.append(
                f"off the float64 oracle by at most (on average) {_ulp(self.onnxruntime)} in ONNX "
                f"Runtime, {_ulp(self.keras)} in Keras; largest absolute error "
                f"{self.onnxruntime.max_absolute:.3g} and {self.keras.max_absolute:.3g}"
            )
        if self.argmax_agreement is not None:
            parts.append(f"argmax agrees with Keras in {self.argmax_agreement.keras:.2%}")
        if self.mismatches is not None:
            parts.append(f"{self.mismatches or 'no'} elements differ")
        if self.reason:
            parts.append(self.reason)
        return "; ".join(parts)


def compare(
    name: str,
    oracle: Array,
    keras: Array,
    onnxruntime: Array,
    criterion: Criterion | None = None,
    precision: str | None = None,
) -> OutputRecord:
    """Judges one output of a model.

    Args:
        name: the output's name.
        oracle: the result in float64 (or as the model returns it, for integers, booleans and
            strings).
        keras: Keras' result, in the output's own dtype.
        onnxruntime: ONNX Runtime's result.
        criterion: the numbers to judge by; default: those of `Criterion`.
        precision: the coarsest of `FLOATS` that the model computes in; default: the output's.
    """
    criterion = Criterion() if criterion is None else criterion
    dtype, shape = _dtype_name(keras), keras.shape
    unlike = _unlike(oracle, keras, onnxruntime)
    if unlike:
        return OutputRecord(name, dtype, shape, passed=False, reason=unlike)
    if dtype not in FLOATS:
        return _compare_exactly(name, oracle, keras, onnxruntime)
    # A result that the dtype cannot hold is infinite in it, for every party.
    exact = _as_stored(oracle, dtype)
    parties = keras.astype(np.float64), onnxruntime.astype(np.float64)
    scale = _scale(exact)
    of_keras, of_runtime = (errors(exact, party, dtype, scale) for party in parties)
    limit = half_digits(dtype, precision or dtype)
    floor = floor_ulp(criterion, dtype)
    allowed_max = criterion.multiple * min(of_keras.max_ulp, limit) + floor
    allowed_mean = criterion.multiple * min(of_keras.mean_ulp, limit) + floor
    difference = errors(parties[0], parties[1], dtype, scale)
    worst = _worst(exact, *parties, dtype, scale)
    reasons = _reasons(of_runtime, allowed_max, allowed_mean, worst)
    lost = _lost(exact, *parties)
    if lost:
        reasons.append(
            f"{lost} elements are NaN or infinite in ONNX Runtime and neither in Keras nor in the "
            "oracle, or the other way round"
        )
    notes = [] if of_keras.max_ulp <= limit else [_doubt(of_keras, difference, limit, reasons)]
    return OutputRecord(
        name,
        dtype,
        shape,
        passed=not reasons,
        reason="; ".join(reasons + notes),
        allowed_max_ulp=allowed_max,
        allowed_mean_ulp=allowed_mean,
        keras=of_keras,
        onnxruntime=of_runtime,
        difference=difference,
        worst=worst,
        argmax_agreement=_argmax_agreement(oracle, *parties),
    )


def errors(exact: Array, result: Array, dtype: str, scale: float | None = None) -> Errors:
    """The errors of ``result`` against ``exact``.

    Args:
        exact: the values to measure from, float64.
        result: the values measured, of the same shape.
        dtype: one of `FLOATS`, whose spacing is the unit of the ULP errors.
        scale: magnitude below which values count as this large; default: the root mean square
            of the finite values of ``exact`` (1 if they are all 0).
    """
    scale = _scale(exact) if scale is None else scale
    finite = np.isfinite(exact) & np.isfinite(result)
    mismatches = int(np.count_nonzero(~_same(exact, result) & ~finite))
    if not finite.any():
        return Errors(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, mismatches)
    values = exact[finite].astype(np.float64)
    absolute = np.abs(result[finite].astype(np.float64) - values)
    magnitude = np.maximum(np.abs(values), scale)
    relative = absolute / magnitude
    ulp = absolute / spacing(magnitude, dtype)
    return Errors(
        max_absolute=float(absolute.max()),
        mean_absolute=float(absolute.mean()),
        max_relative=float(relative.max()),
        mean_relative=float(relative.mean()),
        max_ulp=float(ulp.max()),
        mean_ulp=float(ulp.mean()),
        nonfinite_mismatches=mismatches,
    )


def spacing(values: Array, dtype: str) -> Float64:
    """Distance from |values| to the next number of a dtype (one of `FLOATS`), as float64."""
    fraction_bits, smallest_exponent = _FORMATS[dtype]
    _, exponents = np.frexp(values.astype(np.float64))
    exponents = np.where(values == 0, smallest_exponent, exponents - 1)
    result: Float64 = np.ldexp(1.0, np.maximum(exponents, smallest_exponent) - fraction_bits)
    return result


def half_digits(dtype: str, precision: str) -> float:
    """The ULP error of an output of ``dtype`` that lost half the digits of ``precision``.

    As an error relative to the output it is the square root of the spacing of ``precision`` at 1.
    """
    return float(2.0 ** (_FORMATS[dtype][0] - _FORMATS[precision][0] / 2))


def floor_ulp(criterion: Criterion, dtype: str) -> float:
    """The floor for an output of one of `FLOATS`.

    No oracle is finer than float64, and epsilon is a float32 in the file: there it is four times
    half the digits. Half precision is only stored, and what sums in float32 differ by can turn
    the rounding of a result and of what it was computed from: there an eighth is enough.
    """
    if dtype == "float64":
        return 4 * half_digits(dtype, dtype)
    return criterion.floor_ulp / 8 if dtype in _HALVES else criterion.floor_ulp


def _dtype_name(array: Array) -> str:
    return "string" if array.dtype.kind in "OSU" else str(array.dtype)


def _unlike(oracle: Array, keras: Array, onnxruntime: Array) -> str:
    if onnxruntime.shape != keras.shape:
        return f"ONNX Runtime returns shape {list(onnxruntime.shape)}, Keras {list(keras.shape)}"
    if _dtype_name(onnxruntime) != _dtype_name(keras):
        return f"ONNX Runtime returns {_dtype_name(onnxruntime)}, Keras {_dtype_name(keras)}"
    if oracle.shape != keras.shape:
        return (
            f"the oracle returns shape {list(oracle.shape)}, Keras {list(keras.shape)}: "
            "the oracle is wrong, so nothing was judged"
        )
    return "" if keras.size else "there is no element to compare"


def _compare_exactly(name: str, oracle: Array, keras: Array, onnxruntime: Array) -> OutputRecord:
    oracle, keras, onnxruntime = (_text(a) for a in (oracle, keras, onnxruntime))
    # Where rounding turned Keras' decision, either answer is right.
    wrong = (onnxruntime != keras) & (onnxruntime != oracle)
    count = int(np.count_nonzero(wrong))
    reason = ""
    if count:
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        reason = (
            f"at {list(first)} ONNX Runtime has {onnxruntime[first]!s}, Keras {keras[first]!s}, "
            f"the oracle {oracle[first]!s}"
        )
    return OutputRecord(
        name, _dtype_name(keras), keras.shape, passed=not count, reason=reason, mismatches=count
    )


def _text(array: Array) -> Array:
    if array.dtype.kind not in "OSU":
        return array
    decoded = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in array.flat]
    return np.array(decoded, dtype=np.str_).reshape(array.shape)


def _as_stored(oracle: Array, dtype: str) -> Float64:
    """The oracle's values, infinite where they round beyond the largest number of the dtype."""
    _, smallest_exponent = _FORMATS[dtype]
    fraction_bits = _FORMATS[dtype][0]
    values = oracle.astype(np.float64)
    if dtype == "float64":
        return values
    beyond = 2.0 ** (1 - smallest_exponent) * (2.0 - 2.0 ** -(fraction_bits + 1))
    stored: Float64 = np.where(np.abs(values) >= beyond, np.copysign(np.inf, values), values)
    return stored


def _scale(exact: Array) -> float:
    values = exact[np.isfinite(exact)].astype(np.float64)
    largest = float(np.max(np.abs(values), initial=0.0))
    if largest == 0.0:
        return 1.0
    # Divided first: squares of large or tiny values leave the range of float64.
    return largest * float(np.sqrt(np.mean(np.square(values / largest))))


def _same(a: Array, b: Array) -> npt.NDArray[np.bool_]:
    result: npt.NDArray[np.bool_] = (a == b) | (np.isnan(a) & np.isnan(b))
    return result


def _lost(exact: Float64, keras: Float64, onnxruntime: Float64) -> int:
    """Elements where ONNX Runtime is non-finite, or should be, and Keras does not bear it out."""
    mismatch = ~_same(exact, onnxruntime) & ~(np.isfinite(exact) & np.isfinite(onnxruntime))
    return int(np.count_nonzero(mismatch & ~_same(keras, onnxruntime)))


def _reasons(
    runtime: Errors, allowed_max: float, allowed_mean: float, worst: Worst | None
) -> list[str]:
    reasons = [
        f"ONNX Runtime's {which} error of {found:.4g} ULP is more than the {allowed:.4g} allowed"
        for which, found, allowed in (
            ("largest", runtime.max_ulp, allowed_max),
            ("mean", runtime.mean_ulp, allowed_mean),
        )
        if found > allowed
    ]
    if reasons and worst:
        reasons.append(
            f"worst at {list(worst.index)}: ONNX Runtime {worst.onnxruntime:.9g}, Keras "
            f"{worst.keras:.9g}, the oracle {worst.oracle:.9g}"
        )
    return reasons


def _doubt(keras: Errors, difference: Errors, limit: float, reasons: list[str]) -> str:
    far = (
        f"Keras itself is {keras.max_ulp:.4g} ULP from the float64 oracle, more than half of its "
        f"digits ({limit:.4g} ULP)"
    )
    if not reasons:
        return f"{far}, while ONNX Runtime is near it: these inputs cost Keras its precision"
    if difference.max_ulp <= limit:
        return (
            f"{far}, and ONNX Runtime agrees with Keras to {difference.max_ulp:.4g} ULP: either "
            "the oracle is wrong for this model, or the model is ill-conditioned on these inputs; "
            "the verdict is not to be trusted"
        )
    return f"{far}: the model is ill-conditioned on these inputs, or the oracle is wrong for it"


def _worst(
    exact: Float64, keras: Float64, onnxruntime: Float64, dtype: str, scale: float
) -> Worst | None:
    finite = np.isfinite(exact) & np.isfinite(onnxruntime) & np.isfinite(keras)
    if not finite.any():
        return None
    magnitude = np.maximum(np.abs(np.where(finite, exact, 0.0)), scale)
    gap = np.where(finite, onnxruntime, 0.0) - np.where(finite, exact, 0.0)
    ulp = np.abs(gap) / spacing(magnitude, dtype)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(ulp)), exact.shape))
    return Worst(index, *(float(values[index]) for values in (exact, keras, onnxruntime)))


def _argmax_agreement(
    oracle: Array, keras: Float64, onnxruntime: Float64
) -> ArgmaxAgreement | None:
    if not is_distribution(oracle):
        return None
    predictions = onnxruntime.argmax(axis=-1)
    return ArgmaxAgreement(
        oracle=float(np.mean(predictions == oracle.argmax(axis=-1))),
        keras=float(np.mean(predictions == keras.argmax(axis=-1))),
    )


def is_distribution(values: Array) -> bool:
    """Whether each row along the last axis is non-negative and sums to 1 within 1e-6."""
    if values.ndim == 0 or values.shape[-1] < 2 or not np.isfinite(values).all():
        return False
    sums = values.sum(axis=-1, dtype=np.float64)
    return bool((values >= 0).all() and (np.abs(sums - 1) <= _SUM_TOLERANCE).all())


def _ulp(found: Errors) -> str:
    return f"{found.max_ulp:.4g} ({found.mean_ulp:.3g}) ULP"
