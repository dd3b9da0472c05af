"""ONNX files and what is written beside them: read with care, written aside and then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import onnx
import onnx.checker
import onnx.external_data_helper
from google.protobuf.message import DecodeError, EncodeError

from onnxnorm.errors import ModelFileError
from onnxnorm.graph.nodes import copy_fields

PROTOBUF_LIMIT = 2**31 - 1
# Tensors stay in the file up to here; what else a file holds must fit into the rest.
INLINE_LIMIT = PROTOBUF_LIMIT - 2**27
_SMALL_TENSOR = 1024
_ALIGNMENT = 4096
_HEADER_FIELDS: Mapping[int, Any] = {
    onnx.ModelProto.OPSET_IMPORT_FIELD_NUMBER: onnx.OperatorSetIdProto,
    onnx.ModelProto.METADATA_PROPS_FIELD_NUMBER: onnx.StringStringEntryProto,
}
# How protocol buffers code a field: https://protobuf.dev/programming-guides/encoding
_VARINT, _LENGTH_DELIMITED, _FIXED = 0, 2, {1: 8, 5: 4}


def load(path: str | os.PathLike[str], *, weights: bool = True) -> onnx.ModelProto:
    """The model in an ONNX file.

    Args:
        path: the file.
        weights: also read the tensors that the file keeps in other files beside it.

    Raises:
        ModelFileError: no such file, not an ONNX file, a damaged one, or external tensors that
            are missing or lie outside the file's folder.
    """
    file = Path(path)
    model = _parse(file, _read(file))
    if weights:
        try:
            onnx.external_data_helper.load_external_data_for_model(model, str(file.parent))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise ModelFileError(
                f"{file}: cannot read its external tensors: {_first_line(error)}: keep the data "
                "file that was written with the model in the same folder"
            ) from error
    return model


@dataclass(frozen=True)
class Header:
    """What a serialized model tells of itself.

    Attributes:
        domains: the operator domains that it imports.
        metadata: its metadata, apart from long ones.
    """

    domains: frozenset[str]
    metadata: Mapping[str, str]


def header(stream: BinaryIO) -> Header:
    """Reads the little that stands beside a serialized model's graph, whatever the model's size.

    What is no model has none of it, or any.
    """
    domains: set[str] = set()
    metadata: dict[str, str] = {}
    while (tag := _varint(stream)) is not None:
        field, kind = divmod(tag, 8)
        if kind == _VARINT:
            _varint(stream)
        elif kind in _FIXED:
            stream.seek(_FIXED[kind], os.SEEK_CUR)
        elif kind != _LENGTH_DELIMITED or (length := _varint(stream)) is None:
            break
        elif field in _HEADER_FIELDS and length < _SMALL_TENSOR:
            try:
                entry = _HEADER_FIELDS[field].FromString(stream.read(length))
            except DecodeError:
                break
            if isinstance(entry, onnx.OperatorSetIdProto):
                domains.add(entry.domain)
            else:
                metadata[entry.key] = entry.value
        else:
            stream.seek(length, os.SEEK_CUR)
    return Header(frozenset(domains), metadata)


def save(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Writes the model so that ``path`` holds either what it held before or the whole model.

    A model with more than 2 GB of tensors keeps them in ``<path>.data`` beside it.

    Raises:
        ModelFileError: the path cannot be written to, or the model is too large for the format.
    """
    file = _destination(path)
    try:
        if _tensor_bytes(model) <= INLINE_LIMIT:
            with aside(file) as temporary, temporary.open("wb") as stream:
                stream.writelines(_serialized(model))
            return
        data = file.with_name(f"{file.name}.data")
        with aside(file) as temporary, aside(data) as temporary_data:
            with temporary_data.open("wb") as stream:
                skeleton = _with_external_tensors(model, stream, data.name)
            temporary.write_bytes(skeleton.SerializeToString())
    except (EncodeError, ValueError) as error:
        raise ModelFileError(
            f"{file}: the model does not fit into an ONNX file: {error}"
        ) from error


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Writes a text file so that ``path`` holds either what it held before or the whole text.

    Raises:
        ModelFileError: the path cannot be written to.
    """
    with aside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_destination(path: str | os.PathLike[str]) -> None:
    """Finds out before long work whether a file can be written at ``path``.

    Raises:
        ModelFileError: it cannot; the message says why.
    """
    _destination(path)


@contextmanager
def aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the folder of ``path``; what is written there takes its place at the end.

    When the block raises, ``path`` keeps what it held before.

    Raises:
        ModelFileError: the path cannot be written to.
    """
    file = _destination(path)
    temporary = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield temporary
        _to_disk(temporary)
        os.replace(temporary, file)
        _to_disk(file.parent)
    except OSError as error:
        raise ModelFileError(f"cannot write {file}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _destination(path: str | os.PathLike[str]) -> Path:
    # A link is followed: the file that it names is replaced, not the link.
    file = Path(os.path.realpath(path))
    if file.is_dir():
        raise ModelFileError(f"cannot write {path}: it is a directory, name a file in it")
    if file.exists() and not file.is_file():
        raise ModelFileError(f"cannot write {path}: it is not a regular file")
    if not file.parent.is_dir():
        raise ModelFileError(f"cannot write {path}: there is no directory {file.parent}")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise ModelFileError(f"cannot write {path}: no permission to write in {file.parent}")
    return file


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(file: Path) -> bytes:
    if file.is_dir():
        raise ModelFileError(f"{file}: is a directory, an ONNX file is expected")
    try:
        size = file.stat().st_size
        if size > PROTOBUF_LIMIT:
            raise ModelFileError(
                f"{file}: {size} bytes are more than an ONNX file can have (2 GB; larger weights "
                "lie in a data file beside it)"
            )
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise ModelFileError(f"{file}: no such file") from error
    except OSError as error:
        raise ModelFileError(f"{file}: cannot be read: {error.strerror or error}") from error
    if not content:
        raise ModelFileError(f"{file}: the file is empty, an ONNX file is expected")
    return content


def _parse(file: Path, content: bytes) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise ModelFileError(f"{file}: not an ONNX file, or a damaged one") from error
    # Other data can happen to parse, as fields that ONNX does not know.
    missing = [
        name
        for name, present in (
            ("IR version", model.ir_version > 0),
            ("graph", model.HasField("graph")),
            ("operator set", len(model.opset_import) > 0),
        )
        if not present
    ]
    if missing:
        raise ModelFileError(
            f"{file}: not an ONNX file, or a truncated one: it has no {' and no '.join(missing)}"
        )
    return model


def _varint(stream: BinaryIO) -> int | None:
    """A number in the protocol buffers' own coding; None at the end of the stream."""
    value = 0
    for shift in range(0, 64, 7):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None


def _tensor_bytes(model: onnx.ModelProto) -> int:
    # ByteSize would write the tensor, twice over in memory, to count what comes out.
    return sum(len(tensor.raw_data) or tensor.ByteSize() for tensor in model.graph.initializer)


def _serialized(model: onnx.ModelProto) -> Iterator[bytes]:
    """The model's bytes, one tensor after the other, so that they are never held all at once."""
    head, graph = onnx.ModelProto(), onnx.GraphProto()
    copy_fields(model, head, leave="graph")
    copy_fields(model.graph, graph, leave="initializer")
    body = graph.SerializeToString()
    parts = [_tensor_start(tensor) for tensor in model.graph.initializer]
    size = len(body) + sum(len(start) + raw for start, raw in parts)
    yield head.SerializeToString()
    yield _field_start(onnx.ModelProto.GRAPH_FIELD_NUMBER, size)
    yield body
    for tensor, (start, _) in zip(model.graph.initializer, parts, strict=True):
        yield start
        yield tensor.raw_data


def _tensor_start(tensor: onnx.TensorProto) -> tuple[bytes, int]:
    """What stands in a graph's field before the tensor's raw data, and the size of these.

    Serializing the whole tensor would hold its values twice more.
    """
    rest = onnx.TensorProto()
    copy_fields(tensor, rest, leave="raw_data")
    start, raw = rest.SerializeToString(), len(tensor.raw_data)
    if tensor.HasField("raw_data"):
        start += _field_start(onnx.TensorProto.RAW_DATA_FIELD_NUMBER, raw)
    return _field_start(onnx.GraphProto.INITIALIZER_FIELD_NUMBER, len(start) + raw) + start, raw


def _field_start(number: int, size: int) -> bytes:
    """What stands before a field that is a message or bytes of this size, in the same coding."""
    return _as_varint(number << 3 | _LENGTH_DELIMITED) + _as_varint(size)


def _as_varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _with_external_tensors(
    model: onnx.ModelProto, stream: BinaryIO, location: str
) -> onnx.ModelProto:
    """The model with its large tensors written to ``stream``, made without copying all of them."""
    skeleton = onnx.ModelProto()
    copy_fields(model, skeleton, leave="graph")
    copy_fields(model.graph, skeleton.graph, leave="initializer")
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) < _SMALL_TENSOR:
            skeleton.graph.initializer.append(tensor)
            continue
        stream.write(b"\0" * (-stream.tell() % _ALIGNMENT))
        offset = stream.tell()
        stream.write(tensor.raw_data)
        reference = skeleton.graph.initializer.add()
        copy_fields(tensor, reference, leave="raw_data")
        reference.data_location = onnx.TensorProto.EXTERNAL
        place = {"location": location, "offset": offset, "length": stream.tell() - offset}
        for key, value in place.items():
            reference.external_data.add(key=key, value=str(value))
    return skeleton


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
