"""Tensors that an ONNX file keeps in data files beside it, of which nothing is believed.

A data file is a regular file, with one name, in the model's folder or below it; no link is
followed to it. What a tensor says of its place in that file must be what its shape and element
type say. Source: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
"""

from __future__ import annotations

import math
import os
import stat
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import onnx

from onnxnorm.errors import ModelFileError
from onnxnorm.files import READ_FLAGS
from onnxnorm.limits import SHARED_DATA

# `checksum` and `basepath` are read by nobody.
_KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})
_MOST_DIGITS = 19
_ADVICE = (
    "keep the model and its data files in one folder, as they were written, without links "
    "(cp -rL copies what links name)"
)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)

_BITS = {
    **dict.fromkeys(("UINT2", "INT2"), 2),
    **dict.fromkeys(("UINT4", "INT4", "FLOAT4E2M1"), 4),
    **dict.fromkeys(("UINT8", "INT8", "BOOL", "FLOAT8E8M0"), 8),
    **dict.fromkeys(("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"), 8),
    **dict.fromkeys(("UINT16", "INT16", "FLOAT16", "BFLOAT16"), 16),
    **dict.fromkeys(("UINT32", "INT32", "FLOAT"), 32),
    **dict.fromkeys(("UINT64", "INT64", "DOUBLE", "COMPLEX64"), 64),
    **dict.fromkeys(("COMPLEX128",), 128),
}
# By number, as far as the installed onnx knows them.
_BITS_OF_TYPE = {
    number: _BITS[name] for name, number in onnx.TensorProto.DataType.items() if name in _BITS
}


@dataclass(frozen=True)
class _Place:
    """Where a tensor's bytes lie: in the data file of this location, from an offset on."""

    location: str
    offset: int
    length: int


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's data lie in a data file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def byte_size(tensor: onnx.TensorProto) -> int | None:
    """How many bytes the elements of a tensor take in a file; None where that is not fixed.

    Raises:
        ModelFileError: a dimension is negative.
    """
    if any(size < 0 for size in tensor.dims):
        raise ModelFileError(f"tensor {tensor.name!r} has shape {list(tensor.dims)}")
    bits = _BITS_OF_TYPE.get(tensor.data_type)
    return None if bits is None else (math.prod(tensor.dims) * bits + 7) // 8


def check(tensors: Iterable[onnx.TensorProto], file: Path) -> None:
    """Refuses a model whose external tensors are not where and what they should be.

    Args:
        tensors: those of the model that are external.
        file: the model's file.

    Raises:
        ModelFileError: names the tensor and says what is wrong.
    """
    _visit(tensors, file, read=False)


def read(tensors: Iterable[onnx.TensorProto], file: Path) -> None:
    """Reads external tensors into the model, each checked before one of its bytes is read.

    Args:
        tensors: those of the model that are external; changed in place.
        file: the model's file.

    Raises:
        ModelFileError: names the tensor and says what is wrong.
    """
    tensors = list(tensors)
    _visit(tensors, file, read=False)
    _visit(tensors, file, read=True)


def locations(tensors: Iterable[onnx.TensorProto], file: Path) -> list[Path]:
    """Paths of the data files that these tensors name, whatever lies there."""
    named = {
        entry.value: None
        for tensor in tensors
        for entry in tensor.external_data
        if entry.key == "location" and isinstance(entry.value, str) and "\0" not in entry.value
    }
    return [file.parent / name for name in named]


def _visit(tensors: Iterable[onnx.TensorProto], file: Path, read: bool) -> None:
    used: dict[tuple[int, int], int] = defaultdict(int)
    for tensor in tensors:
        try:
            place = _place(tensor)
            with _opened(file.parent, place.location) as stream:
                found = os.fstat(stream.fileno())
                # One file can be named in many ways.
                used[found.st_dev, found.st_ino] += place.length
                _check_place(place, found.st_size, used[found.st_dev, found.st_ino])
                if read:
                    _into(tensor, stream, place)
        except (ModelFileError, OSError) as error:
            reason = error.strerror or error if isinstance(error, OSError) else error
            at = f"{place.location!r}: " if isinstance(error, OSError) else ""
            raise ModelFileError(
                f"{file}: cannot read its external tensors: {tensor.name!r}: {at}{reason}; "
                f"{_ADVICE}"
            ) from error


def _into(tensor: onnx.TensorProto, stream: BinaryIO, place: _Place) -> None:
    stream.seek(place.offset)
    content = stream.read(place.length)
    if len(content) != place.length:
        raise ModelFileError(f"{place.location!r} became shorter meanwhile")
    tensor.raw_data = content
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def _place(tensor: onnx.TensorProto) -> _Place:
    keys = [entry.key for entry in tensor.external_data]
    if len(set(keys)) < len(keys) or not _KEYS.issuperset(keys):
        raise ModelFileError("unknown or repeated entries say where its data lie")
    entries = {entry.key: entry.value for entry in tensor.external_data}
    length = byte_size(tensor)
    if length is None:
        raise ModelFileError(f"element type {tensor.data_type} has no external form")
    if "length" in entries and _number(entries, "length") != length:
        raise ModelFileError(
            f"{entries['length']} bytes are given, shape {list(tensor.dims)} has {length}"
        )
    return _Place(entries.get("location", ""), _number(entries, "offset"), length)


def _number(entries: dict[str, str], key: str) -> int:
    text = entries.get(key, "0")
    if not isinstance(text, str) or not (text.isascii() and text.isdecimal()):
        raise ModelFileError(f"{key} {text!r} is not a number of bytes")
    if len(text) > _MOST_DIGITS:
        raise ModelFileError(f"{key} {text[:_MOST_DIGITS]}… is larger than any file")
    return int(text)


def _check_place(place: _Place, size: int, used: int) -> None:
    if place.offset + place.length > size:
        raise ModelFileError(
            f"bytes {place.offset} to {place.offset + place.length} of {place.location!r}, which "
            f"has {size}"
        )
    if used > SHARED_DATA * size:
        raise ModelFileError(
            f"the tensors up to this one use {used} bytes of {place.location!r}, which has {size}: "
            f"more than {SHARED_DATA} times as many"
        )


def _opened(folder: Path, location: object) -> BinaryIO:
    """Opens a data file, following no link on the way from the model's folder to it."""
    if not isinstance(location, str) or not location or "\0" in location:
        raise ModelFileError(f"{location!r} is not the name of a data file")
    parts = Path(location).parts
    if os.path.isabs(location) or ".." in parts or not parts:
        raise ModelFileError(f"{location!r} is not in the model's folder")
    *folders, name = parts
    directory = os.open(folder, _FOLDER)
    try:
        for inner in folders:
            _look(inner, location, directory)
            found = os.open(inner, _FOLDER | os.O_NOFOLLOW, dir_fd=directory)
            os.close(directory)
            directory = found
        _check_file(_look(name, location, directory), location)
        stream = os.fdopen(os.open(name, READ_FLAGS | os.O_NOFOLLOW, dir_fd=directory), "rb")
    finally:
        os.close(directory)
    try:
        _check_file(os.fstat(stream.fileno()), location)
    except ModelFileError:
        stream.close()
        raise
    return stream


def _look(name: str, location: str, directory: int) -> os.stat_result:
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        raise ModelFileError(f"{location!r} is a symbolic link or goes through one")
    return found


def _check_file(found: os.stat_result, location: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ModelFileError(f"{location!r} is not a regular file")
    if found.st_nlink != 1:
        raise ModelFileError(f"{location!r} is a hard link: the file has other names too")
