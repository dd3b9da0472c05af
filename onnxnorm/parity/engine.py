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

from onnxnorm import feeding
from onnxnorm.errors import (
    MissingDependencyError,
    ModelFileError,
    RuntimeLibraryError,
    VerificationError,
)
from onnxnorm.graph.fusion import in_memory

Array = npt.NDArray[Any]
Source = str | os.PathLike[str] | bytes | onnx.ModelProto


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


def load(source: Source, providers: Sequence[Any] | None) -> Engine:
    """A session with the native operators, or without them where their library is missing.

    Raises:
        ModelFileError: the file is missing or no model that ONNX Runtime can load.
    """
    from onnxnorm import runtime

    is_path = isinstance(source, (str, os.PathLike))
    name = Path(source).name if is_path else "model in memory"  # type: ignore[arg-type]
    try:
        return Engine(runtime.InferenceSession(source, providers), name, True, "")
    except RuntimeLibraryError as error:
        note = (
            "the native library did not take part, so any onnxnorm node ran as the function body "
            f"in the file ({error})"
        )
    return Engine(_plain_session(source, providers), name, False, note)


def input_shapes(engine: Engine, names: Sequence[str]) -> list[tuple[int | None, ...]]:
    """Shape of each input of the file, in the order of ``names``; None where it is free."""
    found = _by_name(engine.session.get_inputs(), names, "input", engine)
    return [
        tuple(size if isinstance(size, int) and size > 0 else None for size in value.shape)
        for value in found
    ]


def run(
    engine: Engine, names: Sequence[str], inputs: Sequence[Array], output_names: Sequence[str]
) -> list[Array]:
    """The file's outputs in the order of ``output_names``.

    Raises:
        VerificationError: the file's inputs or outputs are not the model's, or it fails to run.
    """
    session = engine.session
    fed = _by_name(session.get_inputs(), names, "input", engine)
    read = _by_name(session.get_outputs(), output_names, "output", engine)
    try:
        outputs = feeding.run(
            session,
            [value.name for value in read],
            {value.name: array for value, array in zip(fed, inputs, strict=True)},
        )
    except MissingDependencyError:
        raise
    except Exception as error:
        raise VerificationError(f"{engine.file_name}: ONNX Runtime fails: {error}") from error
    return [np.asarray(output) for output in outputs]


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
        content = source if isinstance(source, bytes) else os.fspath(source)
        if isinstance(content, str) and not Path(content).is_file():
            raise ModelFileError(f"{content}: no such model file")
    name = content if isinstance(content, str) else "model"
    in_memory.optimized(content, name, fused=False)  # which checks it
    chosen = ["CPUExecutionProvider"] if providers is None else list(providers)
    try:
        return onnxruntime.InferenceSession(content, providers=chosen)
    except Exception as error:
        raise ModelFileError(f"{name}: ONNX Runtime cannot load it: {error}") from error
