"""Runs the three parties on the same inputs and has their results compared."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

import onnxnorm
from onnxnorm import capture
from onnxnorm.parity import engine as engines
from onnxnorm.parity import oracle
from onnxnorm.parity import subject as subjects
from onnxnorm.parity.comparison import Criterion, compare
from onnxnorm.parity.inputs import draw, named, take
from onnxnorm.parity.report import InputRecord, Report

Array = npt.NDArray[Any]


def verify(
    model: Any,
    onnx_path: str | os.PathLike[str] | bytes | onnx.ModelProto,
    inputs: Any = None,
    samples: int = 16,
    seed: int = 0,
    safe_mode: bool = True,
    providers: Sequence[Any] | None = None,
    criterion: Criterion | None = None,
) -> Report:
    """Compares an ONNX file with the Keras model that it was converted from.

    Args:
        model: the Keras model, or the path of a file that Keras can load.
        onnx_path: the ONNX file: its path, its bytes, or a ``ModelProto``.
        inputs: an array, a list of arrays, a dictionary by input name, or the path of an
            ``.npz`` file; in the dtypes and shapes that the model takes. Default: random ones.
        samples: size of the batch where random inputs may choose it.
        seed: seed of random inputs.
        safe_mode: as in `convert`.
        providers: execution providers of ONNX Runtime in order of preference; default: the CPU.
        criterion: the numbers to judge by; default: those of `Criterion`.

    Raises:
        VerificationError: the inputs do not fit the model, or the file is not of this model.
        ModelFileError: a file is missing, damaged or unsafe.
        MissingDependencyError: TensorFlow or ONNX Runtime is not installed.

    Source: docs/parity.md states the criterion and what every number means.
    """
    if isinstance(model, (str, os.PathLike)):
        from onnxnorm.frameworks.files import load

        model = load(Path(model), safe_mode=safe_mode)
    given = named(inputs)
    engine = engines.load(onnx_path, providers)
    subject = subjects.trace(model, given)
    names = [spec.name for spec in subject.inputs]
    arrays = (
        _drawn(subject, engine, samples, seed) if given is None else take(given, subject.inputs)
    )
    of_runtime = engines.run(engine, names, arrays, subject.output_names)
    of_keras = subjects.run(subject, arrays)
    exact = oracle.evaluate(subject.function, arrays)
    criterion = Criterion() if criterion is None else criterion
    outputs = tuple(
        compare(name, truth, keras, runtime, criterion=criterion, precision=exact.precision)
        for name, truth, keras, runtime in zip(
            subject.output_names, exact.outputs, of_keras, of_runtime, strict=True
        )
    )
    return Report(
        model=subject.name,
        onnx_file=engine.file_name,
        outputs=outputs,
        inputs=tuple(
            InputRecord(spec.name, spec.dtype, array.shape)
            for spec, array in zip(subject.inputs, arrays, strict=True)
        ),
        seed=seed if given is None else None,
        criterion=criterion,
        precision=exact.precision,
        native_library=engine.native_library,
        notes=_notes(engine, exact),
        versions=_versions(),
    )


def _drawn(
    subject: subjects.Subject, engine: engines.Engine, samples: int, seed: int
) -> list[Array]:
    """Random inputs that fit both the model and the file, which may have fixed sizes."""
    shapes = engines.input_shapes(engine, [spec.name for spec in subject.inputs])
    specs = [
        spec
        if spec.shape is None or len(spec.shape) != len(shape)
        else replace(
            spec,
            shape=tuple(
                in_file if own is None else own
                for own, in_file in zip(spec.shape, shape, strict=True)
            ),
        )
        for spec, shape in zip(subject.inputs, shapes, strict=True)
    ]
    return draw(specs, samples, seed)


def _notes(engine: engines.Engine, exact: oracle.Exact) -> tuple[str, ...]:
    notes = [engine.note] if engine.note else []
    if exact.not_widened:
        notes.append(
            "the oracle computed these TensorFlow operations in the model's own precision, for "
            f"want of a float64 form: {', '.join(exact.not_widened)}"
        )
    return tuple(notes)


def _versions() -> dict[str, str]:
    import keras
    import onnxruntime

    tf = capture.tensorflow()
    return {
        "onnxnorm": onnxnorm.__version__,
        "onnx": version("onnx"),
        "onnxruntime": onnxruntime.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
