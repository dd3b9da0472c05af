"""The inputs that all parties are run on: drawn from a seed, or the caller's own, checked."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxnorm import arguments
from onnxnorm.errors import ModelFileError, VerificationError
from onnxnorm.feeding import bfloat16
from onnxnorm.files import open_regular
from onnxnorm.limits import INPUT_BYTES

Array = npt.NDArray[Any]

UNKNOWN_SIZE = 8
"""Size drawn for a dimension that neither the model nor the file states, the batch apart."""


_MOST_TOLD = 10**18
# Drawn in float64 or int64, whatever they become.
_DRAWN_BYTES = 8
# By version of the .npy format; later ones are for names of fields alone.
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# Integers of whose use nothing is known are drawn below it: they may be masks, or few classes.
_FEW = 2


@dataclass(frozen=True)
class InputSpec:
    """What the model takes as one input.

    Attributes:
        name: its name.
        shape: its shape, None where any size will do.
        dtype: numpy name of its dtype, or ``"string"``.
        integral: whether the model turns it into integers first, as embeddings do.
        limit: what integers are drawn below, None where nothing is known of it.
        choices: the values that are drawn from; empty for any.
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str
    integral: bool = False
    limit: int | None = None
    choices: tuple[Any, ...] = ()


def draw(specs: Sequence[InputSpec], samples: int, seed: int) -> list[Array]:
    """Random inputs: N(0, 1) for floats, fair coins for booleans, small integers from 0 on.

    Args:
        specs: the inputs wanted.
        samples: size of a batch dimension of unknown size; other unknown sizes are
            `UNKNOWN_SIZE`.
        seed: the values depend on it and on nothing else.

    Raises:
        VerificationError: an input of strings without choices or of unknown rank, samples below
            1, or more than `limits.INPUT_BYTES`.
    """
    if samples < 1:
        raise VerificationError(f"samples={samples}: at least 1 is needed")
    shapes = {spec.name: _drawn_shape(spec, samples) for spec in specs}
    told = f"inputs of shapes { {name: list(shape) for name, shape in shapes.items()} }"
    _check_size(
        sum(math.prod(shape) * _DRAWN_BYTES for shape in shapes.values()),
        told,
        "ask for fewer samples or smaller shapes",
    )
    generator = np.random.default_rng(seed)
    try:
        return [_draw(spec, shapes[spec.name], generator) for spec in specs]
    except (MemoryError, ValueError, OverflowError) as error:
        raise VerificationError(f"no {told} can be made: {error}") from error


def take(given: Any, specs: Sequence[InputSpec]) -> list[Array]:
    """The caller's inputs in the order of ``specs``, checked against them.

    Args:
        given: an array, a list of arrays in the model's order, a dictionary by name, or the
            path of an ``.npz`` file whose arrays have the inputs' names (or numpy's own
            ``arr_0``, ``arr_1``, … for the model's order).
        specs: what the model takes.

    Raises:
        VerificationError: the file cannot be read, or an input is missing, unknown, empty or of
            another dtype or shape.
    """
    arrays = [_array(array) for array in _in_order(named(given), specs)]
    for array, spec in zip(arrays, specs, strict=True):
        _check(array, spec)
    _check_batch(arrays, specs)
    return arrays


def named(given: Any) -> Any:
    """The caller's inputs in memory: the content of a file, anything else as it is."""
    if not arguments.is_path(given):
        return given
    also = "an array, a list of arrays or a dictionary of arrays"
    return _read(Path(arguments.path("verify", "inputs", given, also)))


def _drawn_shape(spec: InputSpec, samples: int) -> tuple[int, ...]:
    if spec.shape is None:
        raise VerificationError(
            f"input {spec.name!r} has an unknown rank, so none can be drawn: pass inputs"
        )
    return tuple(
        size if size is not None else (UNKNOWN_SIZE if axis else samples)
        for axis, size in enumerate(spec.shape)
    )


def _check_size(size: int, what: str, advice: str) -> None:
    """Before memory is asked for."""
    if size > INPUT_BYTES:
        raise VerificationError(
            f"{what} take {'over ' * (size > _MOST_TOLD)}{min(size, _MOST_TOLD) / 2**30:.3g} GiB, "
            f"and at most {INPUT_BYTES / 2**30:.3g} GiB are accepted: {advice}"
        )


def _draw(spec: InputSpec, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    if spec.choices:
        drawn = generator.integers(0, len(spec.choices), shape)
        return np.array(spec.choices, _numpy_dtype(spec))[drawn]
    kind = "f" if spec.dtype == "bfloat16" else _numpy_dtype(spec).kind
    if kind in "iu" or (kind == "f" and spec.integral):
        return generator.integers(0, spec.limit or _FEW, shape).astype(_numpy_dtype(spec))
    if kind == "f":
        return generator.standard_normal(shape).astype(_numpy_dtype(spec))
    if kind == "b":
        return generator.integers(0, 2, shape).astype(np.bool_)
    raise VerificationError(
        f"input {spec.name!r} holds {spec.dtype} values, which cannot be drawn: pass inputs"
    )


def _numpy_dtype(spec: InputSpec) -> np.dtype[Any]:
    if spec.dtype == "bfloat16":
        return bfloat16()
    return np.dtype(object if spec.dtype == "string" else spec.dtype)


def _read(path: Path) -> dict[str, Array]:
    wanted = "an .npz file as numpy.savez writes it is expected"
    try:
        with open_regular(path, "an .npz file as numpy.savez writes it") as stream:
            if not zipfile.is_zipfile(stream):
                raise VerificationError(f"{path}: not an .npz file, or a damaged one; {wanted}")
            with zipfile.ZipFile(stream) as archive:
                _check_size(
                    sum(entry.file_size for entry in archive.infolist()),
                    f"{path}: its arrays",
                    "give fewer samples",
                )
                arrays = {
                    entry.filename.removesuffix(".npy"): _stored(archive, entry)
                    for entry in archive.infolist()
                }
    except ModelFileError as error:
        raise VerificationError(str(error)) from error
    except VerificationError:
        raise
    except Exception as error:
        # A damaged archive shows itself in many ways: bad checksums, headers, short reads.
        raise VerificationError(f"{path}: cannot be read as arrays: {error}; {wanted}") from error
    if not arrays:
        raise VerificationError(f"{path}: holds no array; {wanted}")
    return arrays


def _stored(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Array:
    """An array of an archive, once its header says no more than its file holds."""
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"{entry.filename} has version {version} of the .npy format")
        shape, _, dtype = _HEADERS[version](stream)
        held = entry.file_size - stream.tell()
    if dtype.hasobject:
        raise ValueError(f"{entry.filename} holds Python objects, which reading it could run")
    size = math.prod(shape) * dtype.itemsize
    if size != held or min(shape, default=0) < 0 or math.prod(shape) > INPUT_BYTES:
        raise ValueError(
            f"{entry.filename} has {held} bytes, and {size} by its shape {list(shape)}"
        )
    with archive.open(entry) as stream:
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _in_order(given: Any, specs: Sequence[InputSpec]) -> list[Any]:
    names = [spec.name for spec in specs]
    if isinstance(given, Mapping):
        numbered = [f"arr_{index}" for index in range(len(names))]
        keys = numbered if set(given) == set(numbered) and set(given) != set(names) else names
        missing = [key for key in keys if key not in given]
        extra = [str(key) for key in given if key not in keys]
        if missing or extra:
            told = [f"missing {missing}"] * bool(missing) + [f"unknown {extra}"] * bool(extra)
            raise VerificationError(f"inputs: {', '.join(told)}; the model takes {names}")
        return [given[key] for key in keys]
    arrays = list(given) if isinstance(given, (list, tuple)) else [given]
    if len(arrays) != len(names):
        raise VerificationError(
            f"inputs: {len(arrays)} given, the model takes {len(names)}: {names}"
        )
    return arrays


def _array(given: Any) -> Array:
    try:
        return np.asarray(given)
    except (TypeError, ValueError) as error:  # such as lists of unequal lengths
        raise VerificationError(
            f"inputs: {arguments.shown(given)} cannot be an array: {error}; pass numpy arrays"
        ) from error


def _check(array: Array, spec: InputSpec) -> None:
    is_text = array.dtype.kind in "OSU"
    found = "string" if is_text else str(array.dtype)
    if found != spec.dtype:
        raise VerificationError(
            f"inputs: {spec.name!r} is {found}, the model takes {spec.dtype}: convert it first"
        )
    if spec.shape is not None:
        wanted = [size if size is not None else "any" for size in spec.shape]
        fits = len(spec.shape) == array.ndim and all(
            size in (None, found_size)
            for size, found_size in zip(spec.shape, array.shape, strict=True)
        )
        if not fits:
            raise VerificationError(
                f"inputs: {spec.name!r} has shape {list(array.shape)}, the model takes {wanted}"
            )
    if array.size == 0:
        raise VerificationError(
            f"inputs: {spec.name!r} of shape {list(array.shape)} is empty: at least one sample is "
            "needed"
        )


def _check_batch(arrays: Sequence[Array], specs: Sequence[InputSpec]) -> None:
    """Inputs whose first size is free are batches of one size."""
    sizes = {
        spec.name: array.shape[0]
        for array, spec in zip(arrays, specs, strict=True)
        if spec.shape and spec.shape[0] is None
    }
    if len(set(sizes.values())) > 1:
        raise VerificationError(f"inputs: they differ in their number of samples: {sizes}")
