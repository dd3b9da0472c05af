"""The ONNX file in ONNX Runtime: fed and read by the Keras model's names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxnorm import arguments, feeding
from onnxnorm.errors import (
    MissingDependencyError,
    ModelFileError,
    RuntimeLibraryError,
    VerificationError,
)
from onnxnorm.graph.functions import foreign_bodies
from onnxnorm.modelfile import check_before_runtime, outline
from onnxnorm.runtime_errors import one_line

Array = npt.NDArray[Any]
Source = str | os.PathLike[str] | bytes | bytearray | memoryview | onnx.ModelProto


@dataclass(frozen=True)
class Engine:
    """An ONNX Runtime session.

    Attributes:
        session: the session.
        file_name: name of the file, without its folder.
        native_library: whether the native library is there to run ``onnxnorm`` nodes.
        note: why the native library does not take part; empty when it does.
    """

    session: Any
    file_name: str
    native_library: bool
    note: str


def check_source(function: str, name: str, value: Any) -> None:
    """Whether a public function's argument can be an ONNX file."""
    if not isinstance(value, (bytes, bytearray, memoryview, onnx.ModelProto)):
        arguments.path(function, name, value, "a model's bytes or an onnx.ModelProto")


def load(source: Source, providers: Sequence[Any] | None) -> Engine:
    """A session with the native operators, or without them where their library is missing.

    Raises:
        ModelFileError: the file is missing or no model that ONNX Runtime can load.
    """
    from onnxnorm import runtime

    is_path = isinstance(source, (str, os.PathLike))
    name = Path(source).name if is_path else "model in memory"  # type: ignore[arg-type]
    try:
        session = runtime.InferenceSession(source, _silent(), providers)
        return Engine(session, name, True, "; ".join(foreign_bodies(_model(source))))
    except RuntimeLibraryError as error:
        note = (
            "the native library did not take part, so any onnxnorm node ran as the function body "
            f"in the file ({error})"
        )
    return Engine(_plain_session(source, providers), name, False, note)


def _model(source: Source) -> onnx.ModelProto:
    if isinstance(source, onnx.ModelProto):
        return source
    return outline(source if isinstance(source, (str, os.PathLike)) else bytes(source))


class RunError(VerificationError):
    """ONNX Runtime loads a file and fails on inputs that fit it."""


def input_shapes(engine: Engine, names: Sequence[str]) -> list[tuple[int | str | None, ...]]:
    """Shape of each input of the file, in the order of ``names``.

    Of a free dimension the name that it has in the file, or None.
    """
    found = _by_name(engine.session.get_inputs(), names, "input", engine)
    return [
        tuple(size if isinstance(size, str) or (size or 0) > 0 else None for size in value.shape)
        for value in found
    ]


def run(
    engine: Engine, names: Sequence[str], inputs: Sequence[Array], output_names: Sequence[str]
) -> list[Array]:
    """The file's outputs in the order of ``output_names``.

    Raises:
        VerificationError: the file's inputs or outputs are not the model's.
        RunError: it fails to run.
    """
    session = engine.session
    fed = _by_name(session.get_inputs(), names, "input", engine)
    read = _by_name(session.get_outputs(), output_names, "output", engine)
    for value, array in zip(fed, inputs, strict=True):
        _check_input(value, array, engine)
    try:
        outputs = feeding.run(
            session,
            [value.name for value in read],
            {value.name: array for value, array in zip(fed, inputs, strict=True)},
        )
    except MissingDependencyError:
        raise
    except Exception as error:
        raise RunError(f"ONNX Runtime fails: {one_line(error)}") from error
    return [np.asarray(output) for output in outputs]


def _check_input(value: Any, array: Array, engine: Engine) -> None:
    """Whether the file takes what the Keras model takes."""
    dtype = "string" if array.dtype.kind in "OSU" else array.dtype.name
    wanted = {"float": "float32", "double": "float64"}
    takes = value.type.removeprefix("tensor(").removesuffix(")")
    takes = wanted.get(takes, takes)
    # A shape of no size may be any to ONNX Runtime's Python.
    fits = not value.shape or (
        len(value.shape) == array.ndim
        and all(
            not isinstance(size, int) or size in (found, 0, -1)
            for size, found in zip(value.shape, array.shape, strict=True)
        )
    )
    if takes != dtype or not fits:
        sizes = [size if isinstance(size, int) else "any" for size in value.shape]
        raise VerificationError(
            f"{engine.file_name}: takes input {value.name!r} as {takes} {sizes}, the Keras model "
            f"was given {dtype} {list(array.shape)}: the file must come from this model"
        )


def _by_name(found: Sequence[Any], names: Sequence[str], what: str, engine: Engine) -> list[Any]:
    by_name = {value.name: value for value in found}
    # A single one is unmistakable, whatever the exporter called it.
    if len(found) == len(names) == 1:
        return list(found)
    if set(by_name) != set(names):
        raise VerificationError(
            f"{engine.file_name}: its {what}s are {sorted(by_name)}, the Keras model's "
            f"{sorted(names)}: the file must come from this model"
        )
    return [by_name[name] for name in names]


def _plain_session(source: Source, providers: Sequence[Any] | None) -> Any:
    import onnxruntime

    if isinstance(source, onnx.ModelProto):
        content: str | bytes = source.SerializeToString()
    else:
        is_path = isinstance(source, (str, os.PathLike))
        content = os.fspath(source) if is_path else bytes(source)  # type: ignore[arg-type]
    check_before_runtime(content)
    chosen = ["CPUExecutionProvider"] if providers is None else list(providers)
    try:
        return onnxruntime.InferenceSession(content, _silent(), chosen)
    except Exception as error:
        name = content if isinstance(content, str) else "model"
        raise ModelFileError(f"{name}: ONNX Runtime cannot load it: {one_line(error)}") from error


def _silent() -> Any:
    """Options of a session that logs nothing: what fails is raised."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options
