"""What cannot become ONNX, named by the layer that it stands in."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx

from onnxnorm import capture
from onnxnorm.concrete import ASSIGN
from onnxnorm.errors import ConversionError
from onnxnorm.graph.nodes import all_graphs
from onnxnorm.opset import DOMAIN
from onnxnorm.tf_ops import refused

_SHOWN = 5
_LOOPS = ("While", "StatelessWhile")


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


def check_state(traced: capture.Trace) -> None:
    """Refuses outputs that depend on a variable which the model assigns when it runs.

    Raises:
        ConversionError: with the variable's name.
    """
    assigned = {
        operation.inputs[0].name
        for operation in traced.function.graph.get_operations()
        if operation.type in ASSIGN
    }
    waiting = [tensor.op for tensor in traced.function.outputs] if assigned else []
    seen = set()
    while waiting:
        operation = waiting.pop()
        if operation.name in seen:
            continue
        seen.add(operation.name)
        inputs = list(operation.inputs)
        if operation.type == "ReadVariableOp" and inputs[0].name in assigned:
            names = {inner.name: v.name for v, inner in _variables(traced.function)}
            raise ConversionError(
                f"{at_layer(operation.name, traced.layers)}reads the variable "
                f"{names.get(inputs[0].name, operation.name)!r}, which the model assigns when it "
                "runs, and an ONNX model keeps no state between its runs; make it an input and "
                "an output of the model"
            )
        # In training, a batch norm is given its moving statistics only to move them.
        moving = operation.type.startswith("FusedBatchNorm")
        waiting += [tensor.op for tensor in (inputs[:3] if moving else inputs)]


def check_traced(graph_def: Any, outputs: Iterable[str], traced: capture.Trace) -> None:
    """Refuses operators of which tf2onnx would make something else than they are.

    Args:
        graph_def: the graph, frozen or not.
        outputs: names of its outputs.
        traced: what it comes from.

    Raises:
        ConversionError: with the layers, the operators and what would be accepted.
    """
    nodes = list(_read(graph_def, outputs))
    wrappers = {layer.name for layer in traced.layers if type(layer).__name__ == "TimeDistributed"}
    for node in nodes:
        # Traced for an unknown number of steps, Keras 3 returns as many as the batch has samples.
        if "/pfor/" in node.name and layer_at(node.name, traced.layers) in wrappers:
            raise ConversionError(
                f"{at_layer(node.name, traced.layers)}TimeDistributed over an unknown number of "
                "steps, which Keras 3 traces wrongly; give the model's input its number of steps"
            )
        if node.op in _LOOPS and _keeps_state_in_a_list(graph_def, node):
            raise ConversionError(
                f"{at_layer(node.name, traced.layers)}the loop {node.name!r} keeps its state in an "
                "element of a TensorArray, as keras.ops.scan does, which has no form in ONNX; "
                "write the loop with keras.ops.while_loop, or as a recurrent layer"
            )
    _refuse([(node.name, node.op) for node in nodes], traced, always=False)


def _keeps_state_in_a_list(graph_def: Any, loop: Any) -> bool:
    """Whether each turn of a loop reads and writes an element of a constant number of one list."""
    body = loop.attr["body"].func.name
    nodes = [n for f in graph_def.library.function if f.signature.name == body for n in f.node_def]
    constants = {node.name for node in nodes if node.op == "Const"}

    def lists(operator: str) -> set[str]:
        return {
            node.input[0]
            for node in nodes
            if node.op == operator and node.input[1].partition(":")[0] in constants
        }

    return bool(lists("TensorListGetItem") & lists("TensorListSetItem"))


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


def _read(graph_def: Any, outputs: Iterable[str]) -> Iterator[Any]:
    """The nodes that the outputs are computed from, in the graph and the functions that it calls.

    Not those that only have to run before, as checks of values do: ONNX has none.
    """
    functions = {definition.signature.name: definition for definition in graph_def.library.function}
    waiting = [(graph_def.node, outputs)]
    while waiting:
        nodes, names = waiting.pop()
        own = {node.name: node for node in nodes}
        unread = list(names)
        while unread:
            node = own.pop(unread.pop().split(":")[0], None)
            if node is None:
                continue
            yield node
            unread += (name for name in node.input if not name.startswith("^"))
            called = [node.op]
            for value in node.attr.values():
                called += [value.func.name, *(function.name for function in value.list.func)]
            for name in called:
                definition = functions.pop(name, None)
                if definition is not None:
                    waiting.append((definition.node_def, definition.ret.values()))


def _variables(function: Any) -> Iterator[tuple[Any, Any]]:
    """The variables that a function captures, with the tensors that stand for their handles."""
    handles = {id(variable.handle): variable for variable in function.graph.variables}
    for outer, inner in function.graph.captures:
        if id(outer) in handles:
            yield handles[id(outer)], inner
