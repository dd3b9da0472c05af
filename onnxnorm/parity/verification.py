"""Runs the three parties on the same inputs and has their results compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import onnxnorm
from onnxnorm import arguments, capture
from onnxnorm.errors import VerificationError
from onnxnorm.parity import engine as engines
from onnxnorm.parity import subject as subjects
from onnxnorm.parity import trials
from onnxnorm.parity.comparison import Criterion, OutputRecord, compare
from onnxnorm.parity.inputs import InputSpec, named, take
from onnxnorm.parity.report import InputRecord, Report
from onnxnorm.parity.sizes import Dimension
from onnxnorm.parity.trials import Trial

Array = npt.NDArray[Any]


def verify(
    model: Any,
    onnx_path: engines.Source,
    inputs: Any = None,
    samples: int = 16,
    seed: int = 0,
    safe_mode: bool = True,
    providers: Sequence[Any] | None = None,
    criterion: Criterion | None = None,
    sizes: Mapping[str, int] | None = None,
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
        sizes: sizes that random inputs have where neither the model nor the file states them, by
            ``"input:axis"`` or by the dimension's name in the file; default: the first of a fixed
            series with which Keras computes the model and no tensor is empty.

    Raises:
        VerificationError: the comparison cannot be made: the inputs do not fit the model, Keras
            cannot compute it, nothing comes out that can be compared, or the file is not of this
            model.
        ModelFileError: a file is missing, damaged or unsafe.
        MissingDependencyError: TensorFlow or ONNX Runtime is not installed.

    Source: docs/parity.md states the criterion and what every number means.
    """
    samples = arguments.integer("verify", "samples", samples, least=1)
    seed = arguments.integer("verify", "seed", seed, least=0)
    safe_mode = arguments.flag("verify", "safe_mode", safe_mode)
    arguments.providers("verify", providers)
    if criterion is not None:
        wanted = "an onnxnorm.parity.Criterion"
        arguments.instance("verify", "criterion", criterion, Criterion, wanted)
    sizes = _checked_sizes(sizes)
    engines.check_source("verify", "onnx_path", onnx_path)
    if arguments.is_path(model):
        from onnxnorm.frameworks.files import load

        model = load(Path(arguments.path("verify", "model", model)), safe_mode=safe_mode)
    capture.tensorflow()
    capture.check_model(model)
    given = named(inputs)
    if given is not None and sizes:
        raise VerificationError(
            "sizes: they hold for random inputs, and the given inputs have their own: pass one of "
            "the two"
        )
    engine = engines.load(onnx_path, providers)
    subject = subjects.trace(model, given)
    if given is None:
        specs, dimensions = _specs(subject, engine)
        trial = trials.on_drawn(subject, specs, dimensions, sizes, samples, seed)
    else:
        trial = trials.on_inputs(subject, take(given, subject.inputs))
    criterion = Criterion() if criterion is None else criterion
    outputs = _records(subject, engine, trial, criterion)
    return Report(
        model=subject.name,
        onnx_file=engine.file_name,
        outputs=outputs,
        inputs=tuple(
            InputRecord(spec.name, spec.dtype, array.shape)
            for spec, array in zip(subject.inputs, trial.inputs, strict=True)
        ),
        sizes={str(dimension): size for dimension, size in trial.sizes.items()},
        seed=seed if given is None else None,
        criterion=criterion,
        precision=trial.exact.precision,
        native_library=engine.native_library,
        notes=_notes(engine, trial, samples),
        versions=_versions(),
    )


def _checked_sizes(sizes: Any) -> dict[str, int]:
    wanted = "a dictionary from names of dimensions, such as 'image:1', to sizes"
    given = {} if sizes is None else arguments.mapping("verify", "sizes", sizes, wanted)
    return {
        arguments.text("verify", "sizes", name): arguments.integer(
            "verify", f"sizes[{name!r}]", size, least=1
        )
        for name, size in given.items()
    }


def _specs(
    subject: subjects.Subject, engine: engines.Engine
) -> tuple[list[InputSpec], list[Dimension]]:
    """The inputs with the sizes that the model or the file states, and the unknown dimensions."""
    specs: list[InputSpec] = []
    dimensions: list[Dimension] = []
    shapes = engines.input_shapes(engine, [spec.name for spec in subject.inputs])
    for spec, in_file in zip(subject.inputs, shapes, strict=True):
        shape = spec.shape
        if shape is not None and len(shape) == len(in_file):
            shape = tuple(
                size if own is None and isinstance(size, int) else own
                for own, size in zip(shape, in_file, strict=True)
            )
        names = in_file if shape is not None and len(shape) == len(in_file) else shape or ()
        dimensions += [
            Dimension(spec.name, axis, name if isinstance(name, str) else "")
            for axis, (size, name) in enumerate(zip(shape or (), names, strict=True))
            if size is None
        ]
        specs.append(replace(spec, shape=shape))
    return specs, dimensions


def _records(
    subject: subjects.Subject, engine: engines.Engine, trial: Trial, criterion: Criterion
) -> tuple[OutputRecord, ...]:
    """One record for each output.

    Raises:
        VerificationError: the file is not of this model, or these inputs prove nothing.
    """
    nothing = trial.unjudgeable()
    names = [spec.name for spec in subject.inputs]
    try:
        of_runtime = engines.run(engine, names, trial.inputs, subject.output_names)
    except engines.RunError as failure:
        failed = tuple(
            OutputRecord(name, _dtype(own), own.shape, passed=False, reason=str(failure))
            for name, own in zip(subject.output_names, trial.keras, strict=True)
        )
        if trial.serves:
            return failed
        raise VerificationError(_no_proof(subject, engine, trial, str(failure))) from failure
    records = tuple(
        compare(name, truth, keras, runtime, criterion, trial.exact.precision)
        for name, truth, keras, runtime in zip(
            subject.output_names, trial.exact.outputs, trial.keras, of_runtime, strict=True
        )
    )
    wrong = [place for place, record in enumerate(records) if not record.passed]
    if set(wrong) - set(nothing) and not trial.exact.emptied:
        return records
    if nothing or wrong:
        reason = records[wrong[0]].reason if wrong else ""
        raise VerificationError(_no_proof(subject, engine, trial, reason))
    return records


def _no_proof(
    subject: subjects.Subject, engine: engines.Engine, trial: Trial, difference: str
) -> str:
    """Why nothing can be said of a file on these inputs, and what to give."""
    shapes = ", ".join(
        f"{spec.name} {list(array.shape)}"
        for spec, array in zip(subject.inputs, trial.inputs, strict=True)
    )
    nothing = [
        f"its output {subject.output_names[i]!r} {why}" for i, why in trial.unjudgeable().items()
    ]
    emptied = [f"operation {name!r} returns no element" for name in trial.exact.emptied[:1]]
    options = "".join(f" --size {dimension}=N" for dimension in trial.sizes)
    remedy = (
        f"name other sizes ({options.strip()}; in Python: sizes) or pass inputs"
        if options
        else "pass other inputs"
    )
    return (
        f"{engine.file_name}: cannot be judged on inputs {shapes}: in Keras "
        f"{'; '.join(emptied + nothing)}{f' ({difference})' if difference else ''}; {remedy}"
    )


def _dtype(array: Array) -> str:
    return "string" if array.dtype.kind in "OSU" else array.dtype.name


def _notes(engine: engines.Engine, trial: Trial, samples: int) -> tuple[str, ...]:
    notes = [engine.note] if engine.note else []
    if trial.sizes:
        told = ", ".join(f"{dimension} = {size}" for dimension, size in trial.sizes.items())
        notes.append(f"sizes of unknown dimensions of the drawn inputs: {told}")
    if trial.samples is not None and trial.samples < samples:
        notes.append(f"{trial.samples} samples instead of {samples}, for the sizes of the inputs")
    exact = trial.exact
    if exact.emptied:
        notes.append(
            f"on these inputs the operation {exact.emptied[0]!r} returns no element, so what "
            "follows it may not be proven"
        )
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
