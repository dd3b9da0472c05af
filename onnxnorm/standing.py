"""Which batch normalizations stand in the converted model as nodes, and which went into weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import onnx

from onnxnorm import refusal
from onnxnorm.capture import Trace
from onnxnorm.frameworks import KnownLayer
from onnxnorm.frameworks.formula import class_path
from onnxnorm.graph import records
from onnxnorm.graph.nodes import all_graphs
from onnxnorm.graph.records import LayerRecord

# Operators that a batch normalization by stored statistics becomes.
_OPERATORS = frozenset({"BatchNormalization", "Add", "Sub", "Mul", "Div", "Sqrt", "Reciprocal"})
_FUSED_WEIGHTS = "_fused_bn"
"""Ends the names of weights into which tf2onnx multiplied a batch normalization."""


def note(model: onnx.ModelProto, traced: Trace) -> None:
    """Makes the records of batch normalizations say what is true of the model, in place.

    Args:
        model: the converted model, after every pass that moves nodes.
        traced: the Keras model that it was made of.
    """
    found = list(records.read(model))
    nodes = [node for graph in all_graphs(model.graph) for node in graph.node]
    scopes = _Scopes(traced)
    own: dict[int, list[onnx.NodeProto]] = {}
    weights: dict[int, list[str]] = {}
    for node in nodes:
        index = scopes.layer(node.name)
        if index is not None:
            if node.op_type in _OPERATORS:
                own.setdefault(index, []).append(node)
        elif any(name.endswith(_FUSED_WEIGHTS) for name in node.input):
            for output in node.output:
                index = scopes.layer(output)
                if index is not None:
                    weights.setdefault(index, []).append(node.name)
    has_fused_weights = any(name.endswith(_FUSED_WEIGHTS) for node in nodes for name in node.input)
    waiting = [index for index, known in enumerate(traced.known) if _is_batch(known)]
    for place, record in enumerate(found):
        index = next((i for i in waiting if _is_record_of(record, traced.known[i])), None)
        if index is None or record.lowering != "folded":
            continue
        waiting.remove(index)
        found[place] = _true(record, own.get(index, ()), weights.get(index, ()), has_fused_weights)
    records.write(model, found)


def _true(
    record: LayerRecord,
    nodes: Sequence[onnx.NodeProto],
    weights: Sequence[str],
    has_fused_weights: bool,
) -> LayerRecord:
    into = f"part of the weights of {', '.join(map(repr, dict.fromkeys(weights)))}"
    if nodes:
        names = tuple(node.name for node in nodes)
        reason = f"other calls of it: {into}" if weights else ""
        return replace(record, lowering="native", nodes=names, reason=reason)
    if weights:
        return replace(record, reason=f"{into}: {record.reason}")
    if has_fused_weights:
        return record
    reason = "not part of the model's inference, or of constants alone"
    return replace(record, lowering="unused", reason=reason)


class _Scopes:
    """Finds the batch normalization in whose scope an operation stands."""

    def __init__(self, traced: Trace) -> None:
        self._layers = traced.layers
        self._by_scope = {
            scope: index
            for index, known in enumerate(traced.known)
            if _is_batch(known)
            for scope in known.scopes
        }
        # Layers of a model that was restored as functions are not called while it is traced.
        self._by_name = {
            known.layer.name: index
            for index, known in enumerate(traced.known)
            if _is_batch(known) and not known.scopes
        }

    def layer(self, operation: str) -> int | None:
        """Position of the layer; None for an operation outside of all of them."""
        for scope in _endings(operation):
            if scope in self._by_scope:
                return self._by_scope[scope]
        if not self._by_name:
            return None
        return self._by_name.get(refusal.layer_at(operation, self._layers))


def _endings(operation: str) -> Iterable[str]:
    """Every run of scopes within a name: loops and branches put theirs before and behind."""
    parts = operation.split("/")[:-1]
    lengths = range(len(parts), 0, -1)
    return (
        "/".join(parts[start : start + length]) + "/"
        for length in lengths
        for start in range(len(parts) - length + 1)
    )


def _is_batch(known: KnownLayer) -> bool:
    return bool(known.folded) and known.formula is not None and not known.overridden


def _is_record_of(record: LayerRecord, known: KnownLayer) -> bool:
    return (record.name, record.layer_class) == (known.layer.name, class_path(known.layer))
