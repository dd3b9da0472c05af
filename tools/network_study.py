"""One real network converted by plain tf2onnx and by onnxnorm: graphs, parity, times."""

from __future__ import annotations

import gc
import re
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

import onnxnorm
from models.networks import Network
from onnxnorm import latency
from onnxnorm.graph.nodes import all_graphs
from onnxnorm.graph.records import LayerRecord
from onnxnorm.latency import Timing
from tools import tensorflow_setup
from tools.sessions import session
from tools.steps.export import OPSET, plain

PLAIN, CUSTOM, OPTIMIZED = "plain", "custom", "optimized"


@dataclass(frozen=True)
class Settings:
    """How a network is studied.

    Attributes:
        threads: of TensorFlow and of each session.
        rounds: turns that each graph gets in the race through ONNX Runtime.
        conversions: times that each way of converting is timed, taking turns.
        small: few layers on small inputs, to try the command out.
    """

    threads: int
    rounds: int = 10
    conversions: int = 2
    small: bool = False


@dataclass(frozen=True)
class Graph:
    """What an ONNX file consists of, loop bodies and branches included, function bodies not."""

    nodes: int
    transposes: int


@dataclass(frozen=True)
class Study:
    """What is known of one network.

    Attributes:
        name: the network's.
        parameters: number of its weights.
        failure: why plain tf2onnx gives no model that ONNX Runtime can run; empty when it does.
        graphs: by form; no plain one after a failure.
        layers: normalization layers that are nodes, one for each call.
        norm_nodes: how many nodes these are.
        folded: normalization layers that are part of another layer's weights.
        decomposed: layers and functions that normalize and were converted by their operations.
        passed: the verdict of `onnxnorm.verify`, which runs our graph optimized.
        parity: its summary.
        timings: of one run of the network, batch 1, by form.
        times_faster: than plain tf2onnx' graph, by form; empty after a failure.
        conversion: median seconds, by form.
        conversion_ratio: ours to plain tf2onnx', median over conversions side by side.
    """

    name: str
    parameters: int
    failure: str
    graphs: Mapping[str, Graph]
    layers: int
    norm_nodes: int
    folded: int
    decomposed: tuple[str, ...]
    passed: bool
    parity: str
    timings: Mapping[str, Timing]
    times_faster: Mapping[str, float]
    conversion: Mapping[str, float]
    conversion_ratio: float | None


def study(network: Network, settings: Settings) -> Study:
    """Converts a network both ways, proves parity and races the graphs.

    Raises:
        onnxnorm.OnnxNormError: our conversion fails.
    """
    tf = tensorflow_setup.start(settings.threads)
    model = network.build(settings.small)
    inputs = network.inputs(1, settings.small)
    seconds: dict[str, list[float]] = {PLAIN: [], CUSTOM: []}
    failure = ""
    with tempfile.TemporaryDirectory() as name:
        files = {form: Path(name) / f"{form}.onnx" for form in seconds}
        _warm_up(tf)
        for _ in range(settings.conversions):
            if not failure:
                start = time.perf_counter()
                failure = _write_plain(model, files[PLAIN])
                seconds[PLAIN].append(time.perf_counter() - start)
            start = time.perf_counter()
            conversion = onnxnorm.convert(model, opset=OPSET)
            conversion.save(files[CUSTOM])
            seconds[CUSTOM].append(time.perf_counter() - start)
        failure = failure or _failure_to_load(files[PLAIN])
        if failure:
            del files[PLAIN], seconds[PLAIN]
        given = inputs if len(inputs) > 1 else next(iter(inputs.values()))
        files[OPTIMIZED] = Path(name) / f"{OPTIMIZED}.onnx"
        onnx.save(onnxnorm.optimize(conversion.model), files[OPTIMIZED])
        report = onnxnorm.verify(model, files[CUSTOM], given)
        parameters = model.count_params()
        # What TensorFlow holds is not to stand in the way of the race, nor of the next network.
        del model
        tf.keras.backend.clear_session()
        gc.collect()
        times = _race(files, inputs, settings)
        graphs = {form: _graph(onnx.load(path)) for form, path in files.items()}
    by_lowering: dict[str, list[LayerRecord]] = {}
    for record in conversion.layers:
        by_lowering.setdefault(record.lowering, []).append(record)
    ours = by_lowering.get("custom", [])
    return Study(
        name=network.name,
        parameters=parameters,
        failure=failure,
        graphs=graphs,
        layers=len(ours),
        norm_nodes=sum(len(record.nodes) for record in ours),
        folded=len(by_lowering.get("folded", [])),
        decomposed=tuple(record.name for record in by_lowering.get("decomposed", [])),
        passed=report.passed,
        parity=report.summary(),
        timings={form: latency.timing(own) for form, own in times.items()},
        times_faster={
            form: latency.times_faster(own, times[PLAIN])
            for form, own in times.items()
            if PLAIN in times and form != PLAIN
        },
        conversion={form: float(np.median(own)) for form, own in seconds.items()},
        conversion_ratio=None
        if failure
        else float(np.median(np.divide(seconds[CUSTOM], seconds[PLAIN]))),
    )


@cache
def _warm_up(tf: Any) -> None:
    """The first conversions of a process pay for what TensorFlow and tf2onnx set up once."""
    inputs = tf.keras.Input((4,))
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(2)(inputs))
    plain(model)
    onnxnorm.convert(model, opset=OPSET)


def _write_plain(model: Any, path: Path) -> str:
    """Converts by tf2onnx alone; returns why not, empty when done."""
    try:
        onnx.save(plain(model), path)
    except Exception as error:
        # It fails in many ways, all of them its own.
        return failure_reason(error)
    return ""


def _failure_to_load(path: Path) -> str:
    """tf2onnx leaves operations that it does not know in the file: only loading shows them."""
    try:
        session(path, 1, with_library=False)
    except Exception as error:
        return failure_reason(error)
    return ""


def failure_reason(error: Exception) -> str:
    """Why a conversion failed or its file does not load, in one short line."""
    text = re.sub(r"\x1b\[\d+m", "", str(error))
    if unknown := re.search(r"No Op registered for (\w+)|(\w+)\(-?\d+\) is not a registered", text):
        return f"no ONNX form for {unknown[1] or unknown[2]}"
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    # Keras puts its own words round the cause.
    frames = (i for i, line in enumerate(lines[:-1]) if "Exception encountered" in line)
    return lines[next(frames, -2) + 1][:120]


def _race(
    files: Mapping[str, Path], inputs: Mapping[str, NDArray[Any]], settings: Settings
) -> dict[str, NDArray[np.float64]]:
    functions = {}
    for form, path in files.items():
        runner = session(path, settings.threads, with_library=form != PLAIN)
        feed = _feed(runner, inputs)
        functions[form] = lambda runner=runner, feed=feed: runner.run(None, feed)
    return latency.measure(functions, settings.rounds)


def _feed(runner: Any, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    names = [value.name for value in runner.get_inputs()]
    if len(names) == 1:
        return dict(zip(names, inputs.values(), strict=True))
    return {name: inputs[name] for name in names}


def _graph(model: onnx.ModelProto) -> Graph:
    operators = Counter(node.op_type for graph in all_graphs(model.graph) for node in graph.node)
    return Graph(nodes=operators.total(), transposes=operators["Transpose"])
