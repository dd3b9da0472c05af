"""Loops that take the steps of sequences one after another become Scans.

tf2onnx writes each recurrent layer that ONNX has no operator for as a Loop which counts its steps
and gathers the slices itself. As a Scan its states keep their buffers, and what a step computes of
the input alone can leave it, for all steps at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxnorm.graph.fusion.shapes import inferred_types
from onnxnorm.graph.hoisting import hoist
from onnxnorm.graph.nodes import all_graphs, attributes_of, free_name, read_by, subgraphs

# An integer, the name of a symbolic size, or the value and axis that an unknown one is of.
Size = int | str | tuple[str, int]
Types = Mapping[str, onnx.TypeProto.Tensor | None]

# Inputs of a Loop before its states, inputs and outputs of its body before them.
_TRIP_COUNT_AND_CONDITION = 2
_ITERATION_AND_CONDITION = 2
_CONDITION = 1

_NUMBERS = {
    onnx.TensorProto.INT32,
    onnx.TensorProto.INT64,
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.DOUBLE,
}
_INTEGERS = {onnx.TensorProto.INT32, onnx.TensorProto.INT64}
# Stands for the unknown size along the first axis: one that no graph has by chance, and a number,
# since inference follows those through more operators than symbols.
_ROWS = 1_000_003


def make_scans(model: onnx.ModelProto) -> None:
    """Makes each Loop over whole sequences a Scan, and what needs no state leaves it.

    A Loop becomes one where all of this is certain, and stays as it is otherwise:

    - a state counts its steps from 0, and it ends at the length of the sequences;
    - each sequence is a value from outside, of which a step takes the slice at its number;
    - no other result depends on the number of the iteration or on the condition;
    - each step gives its states the shapes that it found them with.

    Args:
        model: changed in place.
    """
    _in_graph(model, model.graph, ())


def _in_graph(
    model: onnx.ModelProto, graph: onnx.GraphProto, outside: Sequence[onnx.GraphProto]
) -> None:
    for node in list(graph.node):
        for inner in subgraphs(node):
            _in_graph(model, inner, (*outside, graph))
        if node.op_type == "Loop" and not node.domain:
            _make_scan(model, (*outside, graph), node)


@dataclass(frozen=True)
class _Values:
    """What the values are that a graph can read.

    Attributes:
        makers: the node that makes a value.
        constants: the tensors.
        types: types of values, where they can be inferred.
    """

    makers: Mapping[str, onnx.NodeProto]
    constants: Mapping[str, onnx.TensorProto]
    types: Types

    def origin(self, name: str) -> str:
        """What a value is but for its number type."""
        maker = self.makers.get(name)
        while maker is not None and (
            maker.op_type == "Identity"
            or (maker.op_type == "Cast" and attributes_of(maker)["to"] in _NUMBERS)
        ):
            name = maker.input[0]
            maker = self.makers.get(name)
        return name

    def number(self, name: str) -> Size | None:
        """The one number that a value holds: a constant, or the size of some other value."""
        name = self.origin(name)
        if name in self.constants:
            return _number(self.constants[name])
        maker = self.makers.get(name)
        if maker is None or maker.domain:
            return None
        if maker.op_type == "Squeeze":
            return self.number(maker.input[0])
        if maker.op_type not in ("Gather", "Slice"):
            return None
        shape = self.makers.get(self.origin(maker.input[0]))
        if shape is None or shape.op_type != "Shape" or shape.attribute:
            return None
        axis, *rest = map(self.number, maker.input[1:])
        if not isinstance(axis, int) or axis < 0:
            return None
        # A Slice names the end, the axis, which can be but 0 here, and the step.
        if maker.op_type == "Slice" and (rest[0] != axis + 1 or rest[2:] not in ([], [1])):
            return None
        return self.size(shape.input[0], axis)

    def size(self, name: str, axis: int) -> Size:
        """The size of a value along an axis."""
        kind = self.types.get(name)
        if kind is None or not kind.HasField("shape") or axis >= len(kind.shape.dim):
            return name, axis
        known = kind.shape.dim[axis]
        return known.dim_value if known.HasField("dim_value") else known.dim_param or (name, axis)

    def limits(
        self, condition: str, count: Callable[[str], int | None]
    ) -> list[tuple[int, Size]] | None:
        """The numbers below whose limits a condition wants all counts to be, None if it is other.

        Args:
            condition: name of its value.
            count: how far a value is ahead of the number of steps done; None if it counts none.
        """
        condition = self.origin(condition)
        if not condition:
            return []  # a Loop without one
        if condition in self.constants:
            return [] if _number(self.constants[condition]) else None
        maker = self.makers.get(condition)
        if maker is None or maker.domain:
            return None
        if maker.op_type == "And":
            one, other = (self.limits(name, count) for name in maker.input)
            return None if one is None or other is None else one + other
        if maker.op_type != "Less":
            return None
        ahead, limit = count(self.origin(maker.input[0])), self.number(maker.input[1])
        return None if ahead is None or limit is None else [(ahead, limit)]


def _number(tensor: onnx.TensorProto) -> int | None:
    """The number in a tensor of one integer."""
    if tensor.data_type not in _NUMBERS | {onnx.TensorProto.BOOL} or math.prod(tensor.dims) != 1:
        return None
    number = float(numpy_helper.to_array(tensor).item())
    return int(number) if number.is_integer() else None


def _values(model: onnx.ModelProto, graphs: Sequence[onnx.GraphProto]) -> _Values:
    return _Values(
        {name: node for graph in graphs for node in graph.node for name in node.output if name},
        {tensor.name: tensor for graph in graphs for tensor in graph.initializer},
        inferred_types(model),
    )


def _make_scan(
    model: onnx.ModelProto, graphs: Sequence[onnx.GraphProto], loop: onnx.NodeProto
) -> None:
    (body,) = subgraphs(loop)
    values = _values(model, (*graphs, body))
    counter = _counter(values, loop, body)
    slices = {} if counter is None else _slices(values, body, counter)
    lengths = {values.size(sequence, 0) for sequence in slices.values()}
    if counter is None or len(lengths) != 1:
        return
    if not _runs(values, loop, body, counter, lengths.pop()):
        return
    graph, first_output = graphs[-1], len(loop.input) - _TRIP_COUNT_AND_CONDITION
    states, live = _needed(graph, loop, body, set(slices))
    step = _step(body, states, live - set(slices), first_output)
    types = _with_equal_rows(model, values, step, slices)
    passed_on = {value.name for value in step.output} & {value.name for value in step.input}
    if types is None or passed_on or live & {v.name for v in body.input[:_ITERATION_AND_CONDITION]}:
        return
    taken = _names(model)
    before = onnx.GraphProto()
    initial = [
        _with_all_rows(values, loop.input[_TRIP_COUNT_AND_CONDITION + k], slices, before, taken)
        for k in states
    ]
    hoisted = hoist(step, slices, types, taken)
    if not hoisted.sequences:
        return
    before.node.extend(hoisted.nodes)
    before.initializer.extend(hoisted.constants)
    step.input.extend(_info(name, types) for name in hoisted.sequences)
    scan = helper.make_node(
        "Scan",
        [*initial, *hoisted.sequences.values()],
        [loop.output[k] for k in (*states, *range(first_output, len(loop.output)))],
        loop.name,
        body=step,
        num_scan_inputs=len(hoisted.sequences),
    )
    place = list(graph.node).index(loop)
    loop.CopyFrom(scan)
    for node in reversed(before.node):
        graph.node.insert(place, node)
    graph.initializer.extend(before.initializer)


def _counter(values: _Values, loop: onnx.NodeProto, body: onnx.GraphProto) -> int | None:
    """Which of the states counts the steps from 0."""
    for k, initial in enumerate(loop.input[_TRIP_COUNT_AND_CONDITION:]):
        state = body.input[_ITERATION_AND_CONDITION + k].name
        after = values.makers.get(values.origin(body.output[_CONDITION + k].name))
        if (
            values.number(initial) == 0
            and after is not None
            and after.op_type == "Add"
            and state in after.input
            and 1 in map(values.number, after.input)
        ):
            return k
    return None


def _slices(values: _Values, body: onnx.GraphProto, counter: int) -> dict[str, str]:
    """What each step takes of sequences: names of the slices, to those of the sequences."""
    count = body.input[_ITERATION_AND_CONDITION + counter].name
    inside = {value.name for value in (*body.input, *body.initializer)}
    inside.update(name for node in body.node for name in node.output)
    results = {value.name for value in body.output}
    return {
        node.output[0]: node.input[0]
        for node in body.node
        if node.op_type == "Gather"
        and attributes_of(node).get("axis", 0) == 0
        and values.origin(node.input[1]) == count
        and node.input[0] not in inside
        and node.output[0] not in results
    }


def _runs(
    values: _Values, loop: onnx.NodeProto, body: onnx.GraphProto, counter: int, length: Size
) -> bool:
    """Whether the Loop does as many steps as a sequence is long."""
    iteration, condition = (value.name for value in body.input[:_ITERATION_AND_CONDITION])
    ahead = {
        iteration: 0,
        body.input[_ITERATION_AND_CONDITION + counter].name: 0,
        values.origin(body.output[_CONDITION + counter].name): 1,
    }
    trip_count, start = loop.input[:_TRIP_COUNT_AND_CONDITION]
    before = values.limits(start, lambda name: 0 if values.number(name) == 0 else None)
    after = body.output[0].name
    going_on = [] if values.origin(after) == condition else values.limits(after, ahead.get)
    if before is None or going_on is None:
        return False
    ends = bool(trip_count) or any(steps == 1 for steps, _ in going_on)
    limits: list[Size | None] = [limit for _, limit in (*before, *going_on)]
    limits += [values.number(trip_count)] if trip_count else []
    return ends and all(limit == length for limit in limits)


def _needed(
    graph: onnx.GraphProto, loop: onnx.NodeProto, body: onnx.GraphProto, slices: Set[str]
) -> tuple[list[int], set[str]]:
    """The states that results depend on, and the names of all values in the body that they do."""
    inside = [value.name for value in body.input][_ITERATION_AND_CONDITION:]
    after = [value.name for value in body.output][_CONDITION:]
    read = {name for node in graph.node for name in read_by(node)}
    read.update(value.name for value in graph.output)
    kept = {k for k in range(len(inside)) if loop.output[k] in read}
    makers = {name: node for node in body.node for name in node.output}
    live: set[str] = set()
    waiting = [name for k, name in enumerate(after) if k in kept or k >= len(inside)]
    while waiting:
        name = waiting.pop()
        if name in live:
            continue
        live.add(name)
        if name in inside:
            kept.add(inside.index(name))
            waiting.append(after[inside.index(name)])
        elif name in makers and name not in slices:
            waiting += read_by(makers[name])
    return sorted(kept), live


def _step(
    body: onnx.GraphProto, states: Sequence[int], live: Set[str], first_output: int
) -> onnx.GraphProto:
    """The body with what is alive in it, without its sequences."""
    step = onnx.GraphProto(name=body.name)
    step.input.extend(body.input[_ITERATION_AND_CONDITION + k] for k in states)
    step.output.extend(body.output[_CONDITION + k] for k in states)
    step.output.extend(body.output[_CONDITION + first_output :])
    step.initializer.extend(tensor for tensor in body.initializer if tensor.name in live)
    step.node.extend(node for node in body.node if not live.isdisjoint(node.output))
    return step


def _with_equal_rows(
    model: onnx.ModelProto, values: _Values, step: onnx.GraphProto, slices: Mapping[str, str]
) -> Types | None:
    """Types of the values in a step on batches of one size; None where a state changes its own."""
    given = {value.name: value.type.tensor_type for value in step.input}
    given |= {name: _first(values.types.get(sequence)) for name, sequence in slices.items()}
    made = {tensor.name for tensor in step.initializer}
    made.update(name for node in step.node for name in node.output)
    outer = {name for node in step.node for name in read_by(node)} - made - set(given)
    indices = [values.constants[name] for name in outer if _is_index(values.constants.get(name))]
    given |= {name: values.types.get(name) for name in outer - {t.name for t in indices}}
    alone = onnx.ModelProto(opset_import=model.opset_import, ir_version=model.ir_version)
    alone.graph.CopyFrom(step)
    alone.graph.initializer.extend(indices)
    del alone.graph.input[:]
    for name, kind in given.items():
        if kind is None or not kind.elem_type or not kind.HasField("shape"):
            return None
        sizes = [
            d.dim_value if d.HasField("dim_value") else f"{name} {axis}" if axis else _ROWS
            for axis, d in enumerate(kind.shape.dim)
        ]
        alone.graph.input.append(helper.make_tensor_value_info(name, kind.elem_type, sizes))
    # The file says of the results what it says of the states, which is to be shown.
    for value in alone.graph.output:
        value.ClearField("type")
    types = inferred_types(alone)
    for before, after in zip(step.input, step.output, strict=False):
        if types.get(before.name) != types.get(after.name):
            return None
    return types


def _with_all_rows(
    values: _Values,
    initial: str,
    slices: Mapping[str, str],
    before: onnx.GraphProto,
    taken: set[str],
) -> str:
    """What a state starts with: a single row, which the first step can make many, is repeated.

    Args:
        values: what is known of the values.
        initial: what the Loop starts with.
        slices: names of the slices to those of the sequences.
        before: takes the nodes for it, where they are needed.
        taken: names of values and nodes.
    """
    kind = values.types.get(initial)
    rows = {sequence: values.size(sequence, 1) for sequence in slices.values()}
    varying = [sequence for sequence, size in rows.items() if not isinstance(size, int)]
    own = values.size(initial, 0)
    if kind is None or not kind.shape.dim or not varying:
        return initial
    if isinstance(own, int) or own in rows.values():
        return initial

    def add(operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = free_name(f"{initial}/{operator}", taken)
        before.node.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    others = free_name(f"{initial}/ones", taken)
    ones = np.ones(len(kind.shape.dim) - 1, np.int64)
    before.initializer.append(numpy_helper.from_array(ones, others))
    size = add("Shape", [varying[0]], start=1, end=2)
    return add("Expand", [initial, add("Concat", [size, others], axis=0)])


def _first(sequence: onnx.TypeProto.Tensor | None) -> onnx.TypeProto.Tensor | None:
    """The type of a slice of a sequence."""
    if sequence is None or not sequence.HasField("shape"):
        return None
    kind = onnx.TypeProto.Tensor()
    kind.CopyFrom(sequence)
    del kind.shape.dim[0]
    return kind


def _is_index(tensor: onnx.TensorProto | None) -> bool:
    return tensor is not None and tensor.data_type in _INTEGERS


def _info(name: str, types: Types) -> onnx.ValueInfoProto:
    """What the graph of a step says of a slice: its sizes are those of its sequence."""
    kind = types.get(name)
    assert kind is not None  # what reads it could not be told the shape of otherwise
    return helper.make_tensor_value_info(name, kind.elem_type, None)


def _names(model: onnx.ModelProto) -> set[str]:
    """The names of all values and nodes."""
    names: set[str] = set()
    for graph in all_graphs(model.graph):
        names.update(value.name for value in (*graph.input, *graph.initializer))
        names.update(name for node in graph.node for name in (node.name, *node.output))
    return names
