"""How long an ONNX file runs on the CPU, what part of it its norms take, how fast they could be."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import onnxruntime

from onnxnorm import feeding, latency, modelfile, node_times
from onnxnorm.errors import VerificationError
from onnxnorm.graph.nodes import all_graphs
from onnxnorm.graph.skeleton import skeleton
from onnxnorm.latency import Timing
from onnxnorm.memory_copy import MemoryCopy
from onnxnorm.node_times import NodeTimes, NormTime, ProfilerTime
from onnxnorm.parity import inputs
from onnxnorm.parity.inputs import InputSpec
from onnxnorm.provider_choice import CPU
from onnxnorm.runtime import InferenceSession

Array = npt.NDArray[Any]
StrPath = str | os.PathLike[str]

_DTYPES = {
    "float": "float32",
    "double": "float64",
    **{name: name for name in ("float16", "bfloat16", "bool")},
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_FILE, _OTHER, _PROFILED = "file", "other", "profiled"
# Models of norms of one element, whose time is known without the profiler as well.
_ONE, _SEVERAL, _SEVERAL_PROFILED = "one small norm", "small norms", "small norms, profiled"
_SEVERAL_NORMS = 32
_ONE_ELEMENT = {name: np.ones(1, np.float32) for name in ("x0", "scale")}


@dataclass(frozen=True)
class Settings:
    """How a file is timed.

    Attributes:
        threads: of each session, and of the copies.
        rounds: turns that each competitor gets.
        batch: size of first dimensions that the file leaves open, by default 1; other open ones
            are `inputs.UNKNOWN_SIZE`.
        shapes: of inputs, by name; where they give a dimension with a name its size, it has that
            in the other inputs too.
        optimize: as `onnxnorm.InferenceSession` does; else the file runs as it is.
    """

    threads: int
    rounds: int = 20
    batch: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    optimize: bool = True


@dataclass(frozen=True)
class Other:
    """The file to compare with.

    Attributes:
        file: its path.
        whole: the time of one run.
        times_as_long: it takes as the first file, the median over the rounds.
        first_quartile: of that.
        third_quartile: of that.
    """

    file: str
    whole: Timing
    times_as_long: float
    first_quartile: float
    third_quartile: float


@dataclass(frozen=True)
class Benchmark:
    """What a file takes.

    Attributes:
        file: its path.
        inputs: dtype and shape of what it was run on, by name.
        settings: how it was timed.
        whole: the time of one run, not profiled.
        nodes: where the time of a run goes, by the profiler; its own time, as far as it is known,
            is taken off.
        other: the file to compare with, where there is one.
        notes: what a session warned of, which norms are not told apart from the other nodes, and
            which figures are rough.
    """

    file: str
    inputs: Mapping[str, tuple[str, tuple[int, ...]]]
    settings: Settings
    whole: Timing
    nodes: NodeTimes
    other: Other | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The figures in types that JSON knows."""
        return asdict(self)


def bench(
    file: StrPath,
    against: StrPath | None,
    settings: Settings,
    given: Any = None,
    advance: Callable[[float], None] = lambda done: None,
) -> Benchmark:
    """Times a file, its norms, copies of their tensors and another file, which take turns.

    Args:
        file: an ONNX file.
        against: another one, which takes the same inputs.
        settings: how.
        given: arrays to run them on, or the path of an ``.npz`` file; see `inputs.take`. By default
            random ones.
        advance: told the part that is done.

    Raises:
        ModelFileError: a file is missing, damaged, or none that ONNX Runtime can load.
        VerificationError: the inputs do not fit, none can be drawn, a file fails on them, or no
            normalization node runs.
        RuntimeLibraryError: the native library is missing or does not load.
        MissingDependencyError: bfloat16 inputs cannot be exchanged with Python.
    """
    model = skeleton(modelfile.load(file, weights=False))
    layers = node_times.layers(model, str(file))
    with (
        tempfile.TemporaryDirectory(prefix="onnxnorm-") as folder,
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always", RuntimeWarning)
        session = _session(file, settings)
        arrays = _arrays(session, settings, given, _of_unknown_rank(model))
        functions = {_FILE: _runner(session, file, arrays)}
        if against is not None:
            other = _session(against, settings)
            functions[_OTHER] = _runner(other, against, _renamed(arrays, other, against))
        copies = {
            size: MemoryCopy(size, settings.threads)
            for size in _bytes_moved(file, model, arrays, settings, layers, folder)
        }
        profiled = _session(file, settings, os.path.join(folder, "measured"))
        functions[_PROFILED] = _runner(profiled, file, arrays)
        functions |= {_copy(size): copy for size, copy in copies.items()}
        small = _small_norms(settings, folder)
        functions |= {name: _runner(each, name, _ONE_ELEMENT) for name, each in small.items()}
        times = latency.measure(functions, settings.rounds, advance)
        profiler = _profiler_time(times, small[_SEVERAL_PROFILED].end_profiling())
        nodes = node_times.read(profiled.end_profiling(), layers, profiler)
    floors = {
        size: float(np.median(times[_copy(size)])) / copy.copies for size, copy in copies.items()
    }
    return Benchmark(
        file=str(file),
        inputs={name: (array.dtype.name, array.shape) for name, array in arrays.items()},
        settings=settings,
        whole=latency.timing(times[_FILE]),
        nodes=replace(nodes, norms=tuple(_with_floor(norm, floors) for norm in nodes.norms)),
        other=None if against is None else _other(against, times[_OTHER], times[_FILE]),
        notes=(
            *dict.fromkeys(str(warning.message) for warning in told),
            *_taken_apart(model, nodes.norms),
            *_rough(nodes),
        ),
    )


def _session(
    file: StrPath | onnx.ModelProto, settings: Settings, profile_prefix: str = ""
) -> InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    # Otherwise the pool of one competitor goes on spinning in the turn of the next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile_prefix:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    return InferenceSession(file, options, [CPU], optimize=settings.optimize)


def _of_unknown_rank(model: onnx.ModelProto) -> set[str]:
    """The inputs that can have any rank: to ONNX Runtime's Python they are scalars."""
    return {
        value.name for value in model.graph.input if not value.type.tensor_type.HasField("shape")
    }


def _arrays(
    session: Any, settings: Settings, given: Any, of_unknown_rank: Set[str]
) -> dict[str, Array]:
    values = session.get_inputs()
    if given is not None:
        specs = [InputSpec(value.name, None, _dtype(value)) for value in values]
        arrays = inputs.take(given, specs)
    else:
        specs = _specs(values, settings)
        for spec in specs:
            if spec.name in of_unknown_rank - settings.shapes.keys():
                raise VerificationError(
                    f"input {spec.name!r} has an unknown rank: give its shape, "
                    f"--shape {spec.name}=1x224x224x3, or an array, --inputs"
                )
        arrays = inputs.draw(specs, settings.batch or 1, seed=0)
    return {spec.name: array for spec, array in zip(specs, arrays, strict=True)}


def _specs(values: Sequence[Any], settings: Settings) -> list[InputSpec]:
    shapes = settings.shapes
    unknown = sorted(set(shapes) - {value.name for value in values})
    if unknown:
        raise VerificationError(
            f"shapes for unknown inputs {unknown}: the model takes {[v.name for v in values]}"
        )
    sizes = {
        name: size
        for value in values
        for name, size in zip(value.shape, shapes.get(value.name, ()), strict=False)
    }
    batches = {
        value.shape[0]
        for value in values
        if value.name not in shapes and value.shape and not isinstance(value.shape[0], int)
    } - set(sizes)
    if settings.batch and not batches:
        raise VerificationError(
            f"batch {settings.batch}: no input has a first dimension whose size is open: "
            f"{ {value.name: shapes.get(value.name, value.shape) for value in values} }"
        )
    # One name, one size, wherever it stands.
    sizes |= {name: settings.batch or 1 for name in batches if name}
    return [
        InputSpec(
            value.name,
            shapes.get(value.name)
            or tuple(size if isinstance(size, int) else sizes.get(size) for size in value.shape),
            _dtype(value),
        )
        for value in values
    ]


def _renamed(arrays: Mapping[str, Array], session: Any, file: StrPath) -> dict[str, Array]:
    """The arrays by the names of the other file's inputs."""
    specs = [InputSpec(value.name, None, _dtype(value)) for value in session.get_inputs()]
    # A single one is unmistakable, whatever the exporter called it.
    given = list(arrays.values()) if len(arrays) == len(specs) == 1 else arrays
    try:
        taken = inputs.take(given, specs)
    except VerificationError as error:
        raise VerificationError(
            f"{file}: takes other inputs than the file that it is to be compared with: {error}"
        ) from error
    return {spec.name: array for spec, array in zip(specs, taken, strict=True)}


def _dtype(value: Any) -> str:
    found = value.type.removeprefix("tensor(").removesuffix(")")
    if found not in _DTYPES:
        raise VerificationError(
            f"input {value.name!r} is {value.type}: tensors of {', '.join(_DTYPES)} can be fed"
        )
    return _DTYPES[found]


def _runner(session: Any, file: StrPath, arrays: Mapping[str, Array]) -> Callable[[], object]:
    """Runs a session on its inputs, without copies of these or of its outputs; it has done once."""
    values = feeding.ort_values(session, arrays)
    outputs = [value.name for value in session.get_outputs()]

    def run() -> object:
        return session.run_with_ort_values(outputs, values)

    try:
        run()
    except Exception as error:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise VerificationError(
            f"{file}: ONNX Runtime fails on inputs {shapes}: {error}"
        ) from error
    return run


def _bytes_moved(
    file: StrPath,
    model: onnx.ModelProto,
    arrays: Mapping[str, Array],
    settings: Settings,
    layers: Mapping[str, str],
    folder: str,
) -> set[int]:
    """How many bytes its norms move, which the profile of a run tells."""
    session = _session(file, settings, os.path.join(folder, "once"))
    _runner(session, file, arrays)
    norms = node_times.read(session.end_profiling(), layers).norms
    if not norms:
        raise VerificationError(
            f"{file}: no normalization node runs; {_why_none(model)}: such a file can only be "
            "compared with, by --against"
        )
    return {norm.bytes_moved for norm in norms if norm.bytes_moved}


def _why_none(model: onnx.ModelProto) -> str:
    operators = {node.op_type for graph in all_graphs(model.graph) for node in graph.node}
    apart = next(_taken_apart(model, ()), "")
    if apart or not operators & node_times.NORMS:
        return apart or (
            "norms that an exporter wrote as single operators, ReduceMean and so on, cannot be "
            "told from the rest"
        )
    return (
        f"its {', '.join(sorted(operators & node_times.NORMS))} nodes are in branches that are not "
        "taken or in loops that run no turn (--inputs can give the condition or the count), or "
        "ONNX Runtime made them part of others or of constants when it loaded the file"
    )


def _taken_apart(model: onnx.ModelProto, norms: Sequence[NormTime]) -> Iterator[str]:
    """ONNX's own group norms do not run as nodes of this name on the CPU."""
    run = {norm.name for norm in norms}
    apart = [
        node
        for graph in all_graphs(model.graph)
        for node in graph.node
        if node.op_type == "GroupNormalization"
        and node.domain in ("", "ai.onnx")
        and node.name not in run
    ]
    if apart:
        yield (
            f"{len(apart)} GroupNormalization nodes of ONNX's own domain are taken apart by ONNX "
            "Runtime, which has no kernel for them, into operators that cannot be told from the "
            "rest"
        )


def _small_norms(settings: Settings, folder: str) -> dict[str, InferenceSession]:
    return {
        _ONE: _session(_norms_in_a_row(1), settings),
        _SEVERAL: _session(_norms_in_a_row(_SEVERAL_NORMS), settings),
        _SEVERAL_PROFILED: _session(
            _norms_in_a_row(_SEVERAL_NORMS), settings, os.path.join(folder, "small")
        ),
    }


def _norms_in_a_row(count: int) -> onnx.ModelProto:
    nodes = "".join(
        f"x{place + 1} = onnxnorm.LayerNormalization <axes = [-1]> (x{place}, scale, scale)\n"
        for place in range(count)
    )
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18, "onnxnorm" : 1]> '
        f"norms (float[1] x0, float[1] scale) => (float[1] x{count}) {{ {nodes} }}"
    )


def _profiler_time(times: Mapping[str, Array], profile: str) -> ProfilerTime:
    one, several, profiled = (
        float(np.median(times[name])) for name in (_ONE, _SEVERAL, _SEVERAL_PROFILED)
    )
    told = node_times.read(profile, {}).milliseconds / _SEVERAL_NORMS
    counted = told - (several - one) / (_SEVERAL_NORMS - 1)
    return ProfilerTime(
        max(0.0, counted), max(0.0, (profiled - several) / _SEVERAL_NORMS - counted)
    )


def _rough(nodes: NodeTimes) -> Iterator[str]:
    own = nodes.profiler.counted
    rough = [norm for norm in nodes.norms if norm.milliseconds < own * norm.calls * norm.nodes]
    if rough:
        yield (
            f"the profiler's own time, {own:.4f} ms for each node, is taken off; rough figures for "
            f"{len(rough)} of {len(nodes.norms)} norms, which take less than that"
        )


def _copy(size: int) -> str:
    return f"copy of {size} bytes"


def _with_floor(norm: NormTime, floors: Mapping[int, float]) -> NormTime:
    if not norm.bytes_moved:
        return norm
    return replace(norm, floor=norm.calls * floors[norm.bytes_moved])


def _other(file: StrPath, times: Array, of_first: Array) -> Other:
    ratios = np.median(times, axis=1) / np.median(of_first, axis=1)  # of turns of the same round
    first, median, third = map(float, np.percentile(ratios, (25, 50, 75)))
    return Other(str(file), latency.timing(times), median, first, third)
