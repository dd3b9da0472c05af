"""Where the time of a model goes, by ONNX Runtime's profiler: its normalization nodes, the rest."""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxnorm.errors import VerificationError
from onnxnorm.graph import records
from onnxnorm.graph.inspection import NATIVE_OPERATORS
from onnxnorm.opset import OPERATOR_NAMES

NORMS = OPERATOR_NAMES | {operator for _, operator in NATIVE_OPERATORS}
_SUFFIX = "_kernel_time"
_GRAPH = "SequentialExecutor::Execute"
_T = TypeVar("_T")
_ITEM_SIZES = {"float": 4, "float16": 2, "bfloat16": 2, "double": 8}


@dataclass(frozen=True)
class NormTime:
    """What one normalization takes in a run.

    Attributes:
        name: that of its node, or of its layer where the model tells that this became several
            standard nodes, which count together.
        inside: the node in whose subgraph it is, and so on: ``body in loop``; empty in the main
            graph. ``either branch of if``: branches whose nodes have the same names, all of them,
            cannot be told apart and count together.
        operator: that of the normalization node.
        nodes: how many nodes count.
        calls: how often the normalization runs: more than once in the body of a loop.
        input_type: element type of what it normalizes, as ONNX Runtime calls it.
        input_shape: shape of what it normalizes.
        bytes_moved: the least in a call: inputs read once and outputs written once; 0 where there
            is nothing to normalize, None where that is not known.
        milliseconds: of all calls, with what is fused into the node.
        share: of the time of all nodes.
        floor: milliseconds of as many copies as there are calls, of as many bytes; None where they
            are not timed.
    """

    name: str
    inside: str
    operator: str
    nodes: int
    calls: int
    input_type: str
    input_shape: tuple[int, ...]
    bytes_moved: int | None
    milliseconds: float
    share: float
    floor: float | None = None


@dataclass(frozen=True)
class ProfilerTime:
    """What the profiler itself takes of the time of each node, in milliseconds.

    Attributes:
        counted: the part that it tells as the node's.
        between: the rest; of a node in a subgraph, it is told as that of the node that holds it.
    """

    counted: float = 0.0
    between: float = 0.0


@dataclass(frozen=True)
class NodeTimes:
    """Where the time of a run goes. Times and shares are medians over the runs.

    A node with subgraphs counts without the nodes inside, which count themselves.

    Attributes:
        norms: the normalizations in the order in which they first run.
        milliseconds: of all nodes.
        norm_milliseconds: of all norms.
        norm_share: the part of the time of all nodes that norms take.
        others: milliseconds of the other nodes by operator, the largest first.
        runs: how many were looked at.
        profiler: what the profiler takes, which is taken off all times above.
    """

    norms: tuple[NormTime, ...]
    milliseconds: float
    norm_milliseconds: float
    norm_share: float
    others: Mapping[str, float]
    runs: int
    profiler: ProfilerTime


def layers(model: onnx.ModelProto, name: str = "the model") -> dict[str, str]:
    """The layer of each node that is one of several standard ones that a layer became.

    Args:
        model: the model.
        name: what an error calls it.

    Raises:
        ModelFileError: the model's layer records are damaged.
    """
    return {
        node: record.name
        for record in records.read(model, name)
        if record.lowering == "native"
        for node in record.nodes
    }


def read(
    profile: str | os.PathLike[str],
    layer_of: Mapping[str, str],
    profiler: ProfilerTime = ProfilerTime(),
) -> NodeTimes:
    """What a profile tells of the runs of a model.

    Args:
        profile: the file that a session's ``end_profiling()`` names.
        layer_of: what `layers` tells of the model.
        profiler: what is to be taken off.

    Raises:
        VerificationError: no whole run is in it: the profiler keeps a million events.
    """
    norms: dict[_Norm, list[_Execution]] = {}
    operators: dict[str, None] = {}
    runs: list[dict[_Norm | str, float]] = []
    branches: dict[_Graph, list[str]] = {}
    for run in _runs(profile):
        taken: dict[_Norm | str, float] = defaultdict(float)
        for execution in _executions(run, branches, profiler):
            norm = _norm(execution, layer_of)
            taken[norm or execution.operator] += execution.milliseconds
            if runs:  # the inputs are the same, so all runs execute the same nodes
                continue
            if norm is None:
                operators[execution.operator] = None
            else:
                norms.setdefault(norm, []).append(execution)
        runs.append(taken)
    if not runs:
        raise VerificationError(
            "a run executes more nodes than ONNX Runtime's profiler keeps: give smaller inputs"
        )

    def milliseconds(of: Iterable[_Norm | str]) -> NDArray[np.float64]:
        return np.array([sum(taken[each] for each in of) for taken in runs])

    all_norms = milliseconds(norms)
    total = all_norms + milliseconds(operators)
    total = np.maximum(total, 1e-6)  # nothing may be left of it
    others = {operator: _median(milliseconds([operator])) for operator in operators}
    return NodeTimes(
        norms=tuple(
            _norm_time(norm[0], executions, milliseconds([norm]), total)
            for norm, executions in norms.items()
        ),
        milliseconds=_median(total),
        norm_milliseconds=_median(all_norms),
        norm_share=_median(all_norms / total),
        others=dict(sorted(others.items(), key=lambda entry: -entry[1])),
        runs=len(runs),
        profiler=profiler,
    )


@dataclass(frozen=True)
class _Node:
    """One node, once.

    Attributes:
        event: what the profile tells of it.
        graphs: the nodes of each execution of a subgraph of it.
    """

    event: Mapping[str, Any]
    graphs: list[list[_Node]]

    @property
    def name(self) -> str:
        return str(self.event["name"]).removesuffix(_SUFFIX)

    @property
    def milliseconds(self) -> float:
        """Of the node, those inside and the profiler's own."""
        return float(self.event["dur"]) / 1e3


def _runs(profile: str | os.PathLike[str]) -> Iterator[list[_Node]]:
    """The nodes of the main graph, run by run."""
    # Start of each, and what began since then is inside of it: each is told of when it ends.
    nodes: list[tuple[int, _Node]] = []
    graphs: list[tuple[int, list[_Node]]] = []
    with open(profile, encoding="utf-8") as lines:
        for line in lines:
            # One event a line: all at once they would take gigabytes of memory.
            if not line.startswith("{"):
                continue
            event = json.loads(line.rstrip().rstrip(",]"))
            if event["cat"] == "Node" and event["name"].endswith(_SUFFIX):
                nodes.append((event["ts"], _Node(event, _taken_since(event["ts"], graphs))))
            elif event["name"] == _GRAPH:
                graphs.append((event["ts"], _taken_since(event["ts"], nodes)))
            elif event["name"] == "model_run":
                yield [node for _, graph in graphs for node in graph]
                nodes, graphs = [], []


def _taken_since(start: int, began: list[tuple[int, _T]]) -> list[_T]:
    """Takes off the list, which is in order, what began since the start."""
    first = len(began)
    while first and began[first - 1][0] >= start:
        first -= 1
    taken = [value for _, value in began[first:]]
    del began[first:]
    return taken


# What the nodes that hold a graph are called, the outermost first.
_Graph = tuple[str, ...]
# Name and graph; no graph for a layer.
_Norm = tuple[str, _Graph | None]


@dataclass(frozen=True)
class _Execution:
    """One node, once: its types and shapes, and its time without that of nodes inside."""

    name: str
    graph: _Graph
    operator: str
    milliseconds: float
    inputs: Sequence[Mapping[str, Sequence[int]]]
    outputs: Sequence[Mapping[str, Sequence[int]]]


def _executions(
    nodes: Sequence[_Node],
    branches: dict[_Graph, list[str]],
    profiler: ProfilerTime,
    graph: _Graph = (),
) -> Iterator[_Execution]:
    """The nodes, each after those inside.

    Args:
        nodes: of an execution of a graph.
        branches: names of the nodes in the first branch found of each If, added to: branches have
            no names of their own.
        profiler: what is to be taken off.
        graph: what the graph is called.
    """
    for node in nodes:
        arguments = node.event["args"]
        milliseconds = node.milliseconds - profiler.counted
        for inner in node.graphs:
            called = node.name
            if arguments["op_name"] == "If":
                names = [n.name for n in inner]
                is_first = branches.setdefault((*graph, node.name), names) == names
                called = f"{'either' if is_first else 'another'} branch of {called}"
            yield from _executions(inner, branches, profiler, (*graph, called))
            milliseconds -= sum(n.milliseconds + profiler.between for n in inner)
        yield _Execution(
            node.name,
            graph,
            arguments["op_name"],
            max(0.0, milliseconds),
            arguments.get("input_type_shape", ()),
            arguments.get("output_type_shape", ()),
        )


def _norm(execution: _Execution, layer_of: Mapping[str, str]) -> _Norm | None:
    """The normalization that a node belongs to."""
    if execution.name in layer_of:
        return layer_of[execution.name], None
    return (execution.name, execution.graph) if execution.operator in NORMS else None


def _norm_time(
    name: str,
    executions: Sequence[_Execution],
    milliseconds: NDArray[np.float64],
    total: NDArray[np.float64],
) -> NormTime:
    calls = [e for e in executions if e.operator in NORMS] or executions[:1]
    first = calls[0]
    shapes = [entry for entry in first.inputs if entry]
    input_type, input_shape = next(iter(shapes[0].items())) if shapes else ("", ())
    return NormTime(
        name=name,
        inside=" in ".join(reversed(first.graph)),
        operator=first.operator,
        nodes=len({(e.name, e.graph) for e in executions}),
        calls=len(calls),
        input_type=input_type,
        input_shape=tuple(input_shape),
        bytes_moved=_bytes(first),
        milliseconds=_median(milliseconds),
        share=_median(milliseconds / total),
    )


def _bytes(execution: _Execution) -> int | None:
    if execution.operator not in NORMS:
        return None
    tensors = [
        entry for value in (*execution.inputs, *execution.outputs) for entry in value.items()
    ]
    if not all(element in _ITEM_SIZES for element, _ in tensors):
        return None
    if not all(math.prod(shape) for value in execution.outputs for shape in value.values()):
        return 0
    return sum(_ITEM_SIZES[element] * math.prod(shape) for element, shape in tensors)


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values))
