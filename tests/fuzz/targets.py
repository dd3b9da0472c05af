"""What is fuzzed: the readers of files. Only errors of the package itself may come out of them."""

from __future__ import annotations

import io
import json
import random
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import onnx.parser
from google.protobuf.descriptor import FieldDescriptor

import onnxnorm
from onnxnorm import modelfile
from onnxnorm.errors import OnnxNormError
from onnxnorm.frameworks import files
from onnxnorm.opset import OPERATORS, function
from onnxnorm.parity import inputs

_MODELS = (
    """graph (float[N,6,8] x) => (float[N,6,8] y)
        <float[8] s = {1, 1, 1, 1, 1, 1, 1, 1}, float[8] b = {0, 0, 0, 0, 0, 0, 0, 0}> {
        [norm] v = onnxnorm.LayerNormalization <axes = [-1], epsilon = 0.001> (x, s, b)
        a = Add (v, x)
        y = Relu (a)
    }""",
    """graph (float[2] x) => (float[2] y) {
        c = Constant <value = bool {1}> ()
        y = If (c) <
            then_branch = t () => (float[2] p) {
                p = onnxnorm.RMSNormalization <axes = [-1]> (z, x, x)
            },
            else_branch = e () => (float[2] q) { q = Identity (x) }
        >
        z = Exp (x)
    }""",
)


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        run: reads the content; raises whatever is a finding.
        seeds: contents that are valid, made by code.
        in_ci: False where the library that reads has faults of its own, which no caller can mend:
            HDF5 loops for ever in attributes of some damaged files.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    in_ci: bool = True


def _model(text: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 18, "onnxnorm" : 1]> {text}'
    )
    model.functions.append(function(OPERATORS["LayerNormalization"], 18))
    model.metadata_props.add(key="onnxnorm.layers", value="[]")
    return model


def _model_seeds() -> list[bytes]:
    return [_model(text).SerializeToString() for text in _MODELS]


def _read_model(content: bytes) -> None:
    with _file(content, "m.onnx") as path:
        for read in (modelfile.load, onnxnorm.inspect, onnxnorm.optimize):
            with suppress(OnnxNormError):
                read(path)


def _read_mutated_model(content: bytes) -> None:
    """A valid model with a few fields changed, of which the content is the recipe."""
    if not content:
        return
    choice = random.Random(content)
    model = _model(_MODELS[content[0] % len(_MODELS)])
    for _ in range(1 + len(content) % 4):
        _mutate(model, choice)
    with suppress(ValueError):  # a text that is not UTF-8, which protocol buffers refuse
        _read_model(model.SerializeToString())


def _mutate(message: Any, choice: random.Random) -> None:
    """Changes one field of a message, or of one inside it."""
    field = choice.choice(message.DESCRIPTOR.fields)
    present = [each for each, _ in message.ListFields()]
    if present and choice.random() < 0.9:
        field = choice.choice(present)
    value = getattr(message, field.name)
    is_message = field.type == FieldDescriptor.TYPE_MESSAGE
    if field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED:
        if value and is_message and choice.random() < 0.8:
            _mutate(choice.choice(value), choice)
        elif value and choice.random() < 0.5:
            del value[choice.randrange(len(value))]
        elif is_message:
            value.add().CopyFrom(choice.choice(value)) if value else value.add()
        elif field.type != FieldDescriptor.TYPE_BYTES:
            value.append(_scalar(field, choice))
    elif is_message:
        _mutate(value, choice)
    else:
        with suppress(ValueError):  # a number that no enumeration has
            setattr(message, field.name, _scalar(field, choice))


def _scalar(field: FieldDescriptor, choice: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return choice.choice(["", "x", "y", "s", "onnxnorm", "Add", "norm", "a\x1b[2J", "é" * 99])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return choice.choice([b"", b"\0" * 7, b"Relu"])
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return choice.choice([0.0, -1.0, float("nan"), float("inf")])
    return choice.choice([0, 1, -1, 2, 7, 11, 99, 2**31 - 1, -(2**31)])


def _archive_seeds() -> list[bytes]:
    layer = {"class_name": "Dense", "module": "keras.layers", "config": {"name": "d", "units": 1}}
    config = json.dumps({"class_name": "Sequential", "config": {"layers": [layer]}})
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("metadata.json", '{"keras_version": "3.0.0"}')
    return [stream.getvalue()]


def _hdf5_seeds() -> list[bytes]:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["model_config"] = '{"class_name": "Sequential", "config": {"layers": []}}'
        file.attrs["keras_version"] = "2.15.0"
    return [stream.getvalue()]


def _read_keras(name: str) -> Callable[[bytes], None]:
    def read(content: bytes) -> None:
        with _file(content, name) as path, suppress(OnnxNormError):
            files._describe(path)

    return read


def _array_seeds() -> list[bytes]:
    contents = []
    for save in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        save(stream, x=np.ones((2, 3), np.float32), y=np.arange(4))
        contents.append(stream.getvalue())
    return contents


def _read_arrays(content: bytes) -> None:
    with _file(content, "inputs.npz") as path, suppress(OnnxNormError):
        inputs.take(path, [inputs.InputSpec("x", (None, 3), "float32")])


@contextmanager
def _file(content: bytes, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="onnxnorm-fuzz-") as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        yield path


TARGETS: Mapping[str, Target] = {
    "model_file": Target(_read_model, _model_seeds),
    "mutated_model": Target(_read_mutated_model, lambda: [bytes([n]) * 3 for n in range(8)]),
    "keras_archive": Target(_read_keras("m.keras"), _archive_seeds),
    "hdf5_file": Target(_read_keras("m.h5"), _hdf5_seeds, in_ci=False),
    "input_arrays": Target(_read_arrays, _array_seeds),
}
