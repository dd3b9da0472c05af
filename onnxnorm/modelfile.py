"""ONNX files: read with care, written aside and then renamed."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import onnx
from google.protobuf.message import DecodeError, EncodeError

from onnxnorm import external_tensors, model_checks
from onnxnorm.errors import ModelFileError
from onnxnorm.files import aside, destination, open_regular
from onnxnorm.graph.nodes import copy_fields

PROTOBUF_LIMIT = 2**31 - 1
# Tensors stay in the file up to here; what else a file holds must fit into the rest.
INLINE_LIMIT = PROTOBUF_LIMIT - 2**27
_EXPECTED = "an ONNX file"
# Of ONNX Runtime's own format, behind the first four bytes.
_ORT_FORMAT = b"ORTM"
_SMALL_TENSOR = 1024
_LONGEST_NAME = 255
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
            are missing or lie outside the file's folder, or nodes of the ``onnxnorm`` domain
            that are not what the domain says.
    """
    file = Path(path)
    with _opened(file) as stream:
        model = _parse(str(file), stream.read())
    model_checks.check(model, str(file), whole=weights)
    if weights:
        external_tensors.read(model_checks.external_tensors(model), file)
    return model


def data_files(path: str | os.PathLike[str]) -> list[Path]:
    """Paths of the files beside an ONNX file that it says have its external tensors.

    Raises:
        ModelFileError: no such file, not an ONNX file, or a damaged one.
    """
    file = Path(path)
    if _is_of_onnxruntime(os.fspath(path)):
        return []
    return external_tensors.locations(model_checks.external_tensors(outline(file)), file)


def written(path: str | os.PathLike[str]) -> list[Path]:
    """Paths of what `save` can write."""
    file = Path(path)
    data = _data_file(Path(os.path.realpath(file)) if os.path.islink(file) else file)
    # A model of more than 2 GB has no room beside a name of this length.
    return [file, data] if len(os.fsencode(data.name)) <= _LONGEST_NAME else [file]


def check_before_runtime(
    source: str | bytes, folder: str | os.PathLike[str] = "", model_format: str = ""
) -> None:
    """Refuses what ONNX Runtime, which reads model and external tensors by itself, must not meet.

    Models in ONNX Runtime's own format pass: they have neither functions nor external tensors.

    Args:
        source: a model's file or its content.
        folder: where external tensors of a content lie; default: the working directory.
        model_format: ``"ONNX"`` or ``"ORT"``, where the session's options say so.

    Raises:
        ModelFileError: the file cannot be read or is damaged, or what `load` refuses.
    """
    if model_format == "ORT" or (not model_format and _is_of_onnxruntime(source)):
        if isinstance(source, str):
            open_regular(source, "a model file").close()
        return
    name = source if isinstance(source, str) else "model"
    if name.encode("utf-8", "replace") != name.encode("utf-8", "surrogatepass"):
        raise ModelFileError(f"{name}: ONNX Runtime takes names in UTF-8 alone: rename the file")
    file = Path(source) if isinstance(source, str) else Path(folder, "model")
    model = outline(source)
    model_checks.check(model, name, whole=False)
    external_tensors.check(model_checks.external_tensors(model), file)


def outline(source: str | os.PathLike[str] | bytes) -> onnx.ModelProto:
    """A model without the raw data of large initializers, which are skipped and not read.

    Args:
        source: an ONNX file or its content.

    Raises:
        ModelFileError: no such file, not an ONNX file, or a damaged one.
    """
    if isinstance(source, bytes):
        return _parse("model", _without_raw_data(io.BytesIO(source), "model"))
    with _opened(source) as stream:
        return _parse(str(source), _without_raw_data(stream, str(source)))


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
    file = destination(path)
    try:
        if _tensor_bytes(model) <= INLINE_LIMIT:
            with aside(file) as temporary, temporary.open("wb") as stream:
                stream.writelines(_serialized(model))
            return
        data = _data_file(file)
        with aside(file) as temporary, aside(data) as temporary_data:
            with temporary_data.open("wb") as stream:
                skeleton = _with_external_tensors(model, stream, data.name)
            temporary.write_bytes(skeleton.SerializeToString())
    except (EncodeError, ValueError) as error:
        raise ModelFileError(
            f"{file}: the model does not fit into an ONNX file: {error}"
        ) from error


def _opened(file: str | os.PathLike[str]) -> BinaryIO:
    stream = open_regular(file, _EXPECTED)
    size = os.fstat(stream.fileno()).st_size
    if 0 < size <= PROTOBUF_LIMIT:
        return stream
    stream.close()
    if not size:
        raise ModelFileError(f"{file}: the file is empty, {_EXPECTED} is expected")
    raise ModelFileError(
        f"{file}: {size} bytes are more than an ONNX file can have (2 GB; larger weights lie in a "
        "data file beside it)"
    )


def _is_of_onnxruntime(source: str | bytes) -> bool:
    """Whether ONNX Runtime reads the file or its content in its own format."""
    if isinstance(source, bytes):
        return source[4:8] == _ORT_FORMAT
    return source.endswith(".ort")


def _without_raw_data(stream: BinaryIO, name: str) -> bytes:
    model, graph = bytearray(), bytearray()
    try:
        for field in _fields(stream, 0, stream.seek(0, os.SEEK_END)):
            if field.number != onnx.ModelProto.GRAPH_FIELD_NUMBER:
                model += field.read(stream)
                continue
            for inner in _fields(stream, field.content, field.end):
                if inner.number != onnx.GraphProto.INITIALIZER_FIELD_NUMBER:
                    graph += inner.read(stream)
                    continue
                tensor = b"".join(
                    part.read(stream)
                    for part in _fields(stream, inner.content, inner.end)
                    if part.number != onnx.TensorProto.RAW_DATA_FIELD_NUMBER
                    or part.end - part.content < _SMALL_TENSOR
                )
                graph += _field_start(inner.number, len(tensor)) + tensor
    except OSError as error:
        raise ModelFileError(f"{name}: cannot be read: {error.strerror or error}") from error
    except DecodeError as error:
        raise ModelFileError(f"{name}: not an ONNX file, or a damaged one") from error
    if graph:
        model += _field_start(onnx.ModelProto.GRAPH_FIELD_NUMBER, len(graph)) + graph
    return bytes(model)


@dataclass(frozen=True)
class _Field:
    """A field of a message in the protocol buffers' own coding, by its places in a stream."""

    number: int
    start: int
    content: int
    end: int

    def read(self, stream: BinaryIO) -> bytes:
        stream.seek(self.start)
        return stream.read(self.end - self.start)


def _fields(stream: BinaryIO, start: int, end: int) -> Iterator[_Field]:
    """The fields of the message that lies there.

    Raises:
        DecodeError: it is none.
    """
    while start < end:
        stream.seek(start)
        number, kind = divmod(_varint(stream) or 0, 8)
        size: int | None = _FIXED.get(kind)
        if kind == _VARINT:
            _varint(stream)
            size = 0
        elif kind == _LENGTH_DELIMITED:
            size = _varint(stream)
        content = stream.tell()
        if size is None or content + size > end:
            raise DecodeError
        yield _Field(number, start, content, content + size)
        start = content + size


def _parse(file: str, content: bytes) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise ModelFileError(
            f"{file}: not an ONNX file, or a damaged one, or one with messages more than 100 deep"
        ) from error
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


def _data_file(file: Path) -> Path:
    return Path(f"{file}.data")


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
