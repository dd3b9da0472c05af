"""Operators of the ``onnxnorm`` domain that another tool gave another name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain

import onnx

from onnxnorm.graph.nodes import all_graphs, subgraphs
from onnxnorm.opset import (
    DOMAIN,
    OPERATORS,
    RESIDUAL,
    VERSION,
    function,
    optimized_function,
)

_STANDARD = ("", "ai.onnx")
# The bodies are the same text for every version of the standard operators.
_ANY_OPSET = 18


def operator_name(body: onnx.FunctionProto) -> str | None:
    """Name of the ``onnxnorm`` operator that a function computes; None where it is none of them.

    The function's own name and domain and the names of its values and nodes do not matter.
    """
    return _known_bodies().get(_form(body))


def any_in(model: onnx.ModelProto) -> bool:
    """Whether a function of the model is an ``onnxnorm`` operator with another name."""
    named = ((body, operator_name(body)) for body in model.functions)
    return any(name and _identity(body) != (DOMAIN, name, "") for body, name in named)


def give_back(model: onnx.ModelProto) -> tuple[str, ...]:
    """Gives renamed operators their names in the ``onnxnorm`` domain again, in place.

    ``onnx.compose.merge_models`` with prefixes, for one, makes ``a_GroupNormalization`` of
    ``GroupNormalization``, which the native library does not know. Functions that are the same
    then become one. A function stays as it is where no node calls it, or where another body has its
    name already.

    Returns:
        the former names of the functions, as ``domain::name``.
    """
    bodies = [(body, name) for body in model.functions if (name := operator_name(body))]
    taken = {f.name for f in model.functions if f.domain == DOMAIN and operator_name(f) != f.name}
    called = {(node.domain, node.op_type, _overload(node)) for node in _all_nodes(model)}
    became = {
        _identity(body): name
        for body, name in bodies
        if name not in taken and _identity(body) in called - {(DOMAIN, name, "")}
    }
    if not became:
        return ()
    for node in _all_nodes(model):
        name = became.get((node.domain, node.op_type, _overload(node)))
        if name:
            node.domain, node.op_type = DOMAIN, name
            _clear_overload(node)
    for body, name in bodies:
        if _identity(body) in became:
            body.domain, body.name = DOMAIN, name
            _clear_overload(body)
    given = {(DOMAIN, name, "") for name in became.values()}
    for index in reversed(range(len(model.functions))):
        identity = _identity(model.functions[index])
        if identity in given and identity in map(_identity, model.functions[:index]):
            del model.functions[index]
    # A function that calls one of ours imports the domain as well as the model does.
    callers = [f for f in model.functions if any(n.domain == DOMAIN for n in _inside(f.node))]
    for holder in (model, *callers):
        if all(entry.domain != DOMAIN for entry in holder.opset_import):
            holder.opset_import.add(domain=DOMAIN, version=VERSION)
    return tuple(f"{domain}::{name}" for domain, name, _ in became)


@cache
def _known_bodies() -> dict[bytes, str]:
    bodies = {}
    for name, operator in OPERATORS.items():
        bodies[_form(function(operator, _ANY_OPSET))] = name
        for residual in ("", RESIDUAL):
            body = optimized_function(operator, _ANY_OPSET, bool(residual))
            bodies[_form(body)] = f"{residual}{name}"
    return bodies


def _form(body: onnx.FunctionProto) -> bytes:
    """What a function computes: its content without names that a tool may change."""
    form = onnx.FunctionProto()
    form.attribute.extend(sorted(body.attribute))
    defaults = sorted(body.attribute_proto, key=lambda attribute: attribute.name)
    form.attribute_proto.extend(map(_bare, defaults))
    names: dict[str, str] = {"": ""}

    def numbered(values: Sequence[str]) -> list[str]:
        return [names.setdefault(value, str(len(names))) for value in values]

    form.input.extend(numbered(body.input))
    for node in body.node:
        form.node.add(
            op_type=node.op_type,
            domain="" if node.domain in _STANDARD else node.domain,
            input=numbered(node.input),
            output=numbered(node.output),
            attribute=map(_bare, sorted(node.attribute, key=lambda attribute: attribute.name)),
        )
    form.output.extend(numbered(body.output))
    serialized: bytes = form.SerializeToString(deterministic=True)
    return serialized


def _bare(attribute: onnx.AttributeProto) -> onnx.AttributeProto:
    bare = onnx.AttributeProto()
    bare.CopyFrom(attribute)
    bare.ClearField("doc_string")
    return bare


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    return chain(_inside(model.graph.node), *(_inside(body.node) for body in model.functions))


def _inside(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes and those of their subgraphs."""
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from (inner for held in all_graphs(graph) for inner in held.node)


def _identity(body: onnx.FunctionProto) -> tuple[str, str, str]:
    return body.domain, body.name, _overload(body)


def _overload(holder: onnx.NodeProto | onnx.FunctionProto) -> str:
    return str(getattr(holder, "overload", ""))  # since onnx 1.16


def _clear_overload(holder: onnx.NodeProto | onnx.FunctionProto) -> None:
    if _overload(holder):
        holder.ClearField("overload")
