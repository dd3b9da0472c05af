"""What cannot become ONNX, named by the layer that it stands in."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx

from onnxnorm import capture
from onnxnorm.errors import ConversionError
from onnxnorm.graph.nodes import all_graphs
from onnxnorm.opset import DOMAIN
from onnxnorm.tf_ops import refused

_SHOWN = 5


def check_layers(layers: Sequence[Any]) -> None:
    """Refuses layers that remember: an ONNX model is the same in every run.

    Raises:
        ConversionError: a recurrent layer is stateful.
    """
    for layer in layers:
        if hasattr(layer, "cell") and getattr(layer, "stateful", False):
            raise ConversionError(
                f"layer {layer.name!r}: stateful=True, and an ONNX model keeps no state between "
                "its runs; make the layer with stateful=False, and where the state matters make "
                "it an input (initial_state) and an output (return_state=True) of the model"
            )


def check_traced(graph_def: Any, traced: capture.Trace) -> None:
    """Refuses operators of which tf2onnx would make something else than they are.

    Args:
        graph_def: the frozen graph.
        traced: what it was frozen from.

    Raises:
        ConversionError: with the layers, the operators and what would be accepted.
    """
    _refuse([(node.name, node.op) for node in _reachable(graph_def)], traced, always=False)


def check_converted(model: onnx.ModelProto, traced: capture.Trace) -> None:
    """Refuses what is not ONNX: tf2onnx keeps an operator that it does not know, and goes on.

    Raises:
        ConversionError: with the layers and the operators.
    """
    opsets = {o.domain: o.version for o in model.opset_import}
    unknown = [
        (node.name, node.op_type)
        for graph in all_graphs(model.graph)
        for node in graph.node
        if node.domain != DOMAIN
        and not onnx.defs.has(node.op_type, opsets.get(node.domain, 1), node.domain)
    ]
    _refuse(unknown, traced, always=True)


def layer_at(operation: str, layers: Sequence[Any]) -> str:
    """The name of the innermost layer whose scope an operation stands in; empty without one.

    Keras 3 puts a number behind every scope, Keras 2 behind those that it enters again.

    Args:
        operation: its name.
        layers: those of the model, itself first.
    """
    names = {layer.name for layer in layers}
    scopes = operation.split("/")[:-1]
    always_numbered = scopes[:1] != [layers[0].name]
    for scope in reversed(scopes):
        plain = re.sub(r"_\d+$", "", scope)
        for name in (plain, scope) if always_numbered else (scope, plain):
            if name in names:
                return str(name)
    return ""


def at_layer(operation: str, layers: Sequence[Any]) -> str:
    """The layer that an operation stands in, as the beginning of a sentence."""
    name = layer_at(operation, layers)
    return f"layer {name!r}: " if name else ""


@contextmanager
def failing_operations() -> Iterator[list[str]]:
    """Collects the names of the operations that tf2onnx's handlers fail on, from its log."""
    names: list[str] = []

    def note(record: logging.LogRecord) -> bool:
        if str(record.msg).startswith("Failed to convert node") and record.args:
            names.append(str(next(iter(record.args))))
        return False

    logger = logging.getLogger("tf2onnx.tfonnx")
    level = logger.level
    logger.addFilter(note)
    logger.setLevel(logging.ERROR)
    try:
        yield names
    finally:
        logger.setLevel(level)
        logger.removeFilter(note)


def _refuse(operations: Sequence[tuple[str, str]], traced: capture.Trace, always: bool) -> None:
    """``operations``: name and operator; those with a reason are refused, ``always`` all."""
    found = []
    for name, operator in operations:
        reason = refused.why(operator)
        if reason or always:
            reason = f": {reason}" if reason else ""
            found.append(
                f"{at_layer(name, traced.layers)}TensorFlow operator {operator} ({name}){reason}"
            )
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ConversionError(
            f"model {traced.model.name!r}: no ONNX form for {'; '.join(found[:_SHOWN])}{more}"
        )


def _reachable(graph_def: Any) -> Iterator[Any]:
    """The nodes of the graph, and of the functions of its library that they call."""
    functions = {definition.signature.name: definition for definition in graph_def.library.function}
    pending = list(graph_def.node)
    while pending:
        node = pending.pop()
        yield node
        references = [node.op]
        for value in node.attr.values():
            references += [value.func.name, *(function.name for function in value.list.func)]
        for name in references:
            definition = functions.pop(name, None)
            if definition is not None:
                pending.extend(definition.node_def)
