"""Where the time of a model goes, by ONNX Runtime's profiler: its normalization nodes, the rest."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxnorm.errors import VerificationError
from onnxnorm.graph import records
from onnxnorm.graph.inspection import NATIVE_OPERATORS
from onnxnorm.opset import OPERATORS

NORMS = frozenset(OPERATORS) | {operator for _, operator in NATIVE_OPERATORS}
_SUFFIX = "_kernel_time"
_ITEM_SIZES = {"float": 4, "float16": 2, "bfloat16": 2, "double": 8}


@dataclass(frozen=True)
class NormTime:
    """What one normalization takes in a run.

    Attributes:
        name: that of its node, or of its layer where the model tells that this became several
            standard nodes, which count together.
        operator: that of the normalization node.
        nodes: how many nodes count.
        calls: how often the normalization runs: more than once in the body of a loop.
        input_type: element type of what it normalizes, as ONNX Runtime calls it.
        input_shape: shape of what it normalizes.
        bytes_moved: the least in a call: inputs read once and outputs written once; None where
            that is not known.
        milliseconds: of all calls, with what is fused into the node.
        share: of the time of all nodes.
        floor: milliseconds of as many copies as there are calls, of as many bytes; None where they
            are not timed.
    """

    name: str
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
    """

    norms: tuple[NormTime, ...]
    milliseconds: float
    norm_milliseconds: float
    norm_share: float
    others: Mapping[str, float]
    runs: int


def layers(model: onnx.ModelProto) -> dict[str, str]:
    """The layer of each node that is one of several standard ones that a layer became.

    Raises:
        ModelFileError: the model's layer records are damaged.
    """
    return {
        node: record.name
        for record in records.read(model)
        if record.lowering == "native"
        for node in record.nodes
    }


def read(profile: str | os.PathLike[str], layer_of: Mapping[str, str]) -> NodeTimes:
    """What a profile tells of the runs of a model.

    Args:
        profile: the file that a session's ``end_profiling()`` names.
        layer_of: what `layers` tells of the model.

    Raises:
        VerificationError: no whole run is in it: the profiler keeps a million events.
    """
    norms: dict[str, list[_Execution]] = {}
    operators: dict[str, None] = {}
    runs: list[Counter[tuple[bool, str]]] = []
    for run in _runs(profile):
        taken: Counter[tuple[bool, str]] = Counter()
        for execution in run:
            norm = _norm(execution, layer_of)
            taken[norm is not None, norm or execution.operator] += execution.microseconds
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

    def milliseconds(is_norm: bool, names: Iterable[str]) -> NDArray[np.float64]:
        return np.array([sum(taken[is_norm, name] for name in names) for taken in runs]) / 1e3

    all_norms = milliseconds(True, norms)
    total = all_norms + milliseconds(False, operators)
    total = np.maximum(total, 1e-3)  # the profiler's resolution
    others = {operator: _median(milliseconds(False, [operator])) for operator in operators}
    return NodeTimes(
        norms=tuple(
            _norm_time(name, executions, milliseconds(True, [name]), total)
            for name, executions in norms.items()
        ),
        milliseconds=_median(total),
        norm_milliseconds=_median(all_norms),
        norm_share=_median(all_norms / total),
        others=dict(sorted(others.items(), key=lambda entry: -entry[1])),
        runs=len(runs),
    )


@dataclass(frozen=True)
class _Execution:
    """One node, once: its types and shapes, and its time without that of nodes inside."""

    name: str
    operator: str
    microseconds: int
    inputs: Sequence[Mapping[str, Sequence[int]]]
    outputs: Sequence[Mapping[str, Sequence[int]]]


def _runs(profile: str | os.PathLike[str]) -> Iterator[list[_Execution]]:
    run: list[_Execution] = []
    ended: list[tuple[int, int]] = []  # start and duration of nodes that none known holds
    with open(profile, encoding="utf-8") as lines:
        for line in lines:
            # One event a line: all at once they would take gigabytes of memory.
            if not line.startswith("{"):
                continue
            event = json.loads(line.rstrip().rstrip(",]"))
            if event["cat"] == "Node" and event["name"].endswith(_SUFFIX):
                # A node is told of when it ends, so after the nodes inside.
                inside = 0
                while ended and ended[-1][0] >= event["ts"]:
                    inside += ended.pop()[1]
                ended.append((event["ts"], event["dur"]))
                run.append(_execution(event, inside))
            elif event["name"] == "model_run":
                yield run
                run, ended = [], []


def _execution(event: Mapping[str, Any], inside: int) -> _Execution:
    arguments = event["args"]
    return _Execution(
        event["name"].removesuffix(_SUFFIX),
        arguments["op_name"],
        max(0, event["dur"] - inside),
        arguments.get("input_type_shape", ()),
        arguments.get("output_type_shape", ()),
    )


def _norm(execution: _Execution, layer_of: Mapping[str, str]) -> str | None:
    """What the normalization that a node belongs to is called."""
    own = execution.name if execution.operator in NORMS else None
    return layer_of.get(execution.name, own)


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
        operator=first.operator,
        nodes=len({e.name for e in executions}),
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
    return sum(_ITEM_SIZES[element] * math.prod(shape) for element, shape in tensors)


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values))
