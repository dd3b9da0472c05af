"""Loop-invariant states leave the loops.

tf2onnx hands a loop all that its body reads as states: those that every step passes on unchanged
are the weights. ONNX Runtime copies the states in each step and cannot prepare a MatMul for a
matrix that is one, so the body reads them from the graph round it instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from onnxnorm.graph.nodes import all_graphs, subgraphs

# Inputs of a Loop before its states, inputs and outputs of its body before them.
_TRIP_COUNT_AND_CONDITION = 2
_ITERATION_AND_CONDITION = 2
_CONDITION = 1


def free_invariant_states(graph: onnx.GraphProto) -> None:
    """Makes each state that no step changes an outer value of its loop, subgraphs included.

    Args:
        graph: changed in place.
    """
    for node in list(graph.node):
        if node.op_type == "Loop" and not node.domain:
            _free(graph, node)
        for inner in subgraphs(node):
            free_invariant_states(inner)


def _free(graph: onnx.GraphProto, loop: onnx.NodeProto) -> None:
    (body,) = subgraphs(loop)
    initial = list(loop.input)[_TRIP_COUNT_AND_CONDITION:]
    inside = [value.name for value in body.input][_ITERATION_AND_CONDITION:]
    after = [value.name for value in body.output][_CONDITION : _CONDITION + len(initial)]
    # What leaves as a result needs a node that makes it.
    results = [value.name for value in (*graph.output, *body.output)]
    freed = [
        k
        for k, (before, end) in enumerate(zip(inside, after, strict=True))
        if before == end and results.count(before) == 1 and loop.output[k] not in results
    ]
    unchanged = {loop.output[k]: initial[k] for k in freed if loop.output[k]}
    _rename(body, {inside[k]: initial[k] for k in freed})
    _remove(loop.input, [k + _TRIP_COUNT_AND_CONDITION for k in freed])
    _remove(loop.output, freed)
    _remove(body.input, [k + _ITERATION_AND_CONDITION for k in freed])
    _remove(body.output, [k + _CONDITION for k in freed])
    _rename(graph, unchanged)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Has the nodes read other values, those in subgraphs too."""
    for inner in all_graphs(graph) if names else ():
        for node in inner.node:
            for position, name in enumerate(node.input):
                if name in names:
                    node.input[position] = names[name]


def _remove(field: Any, positions: Sequence[int]) -> None:
    for position in reversed(positions):
        del field[position]
