"""Which function bodies a model needs so that it runs without the native library."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import onnx

from onnxnorm.graph.nodes import all_graphs, keep_only, subgraphs
from onnxnorm.graph.renamed import operator_name
from onnxnorm.opset import DOMAIN, OPERATOR_NAMES, RESIDUAL, operator_of, optimized_function

# CastLike, and defaults of a function's attributes.
_OLDEST_OPSET, _OLDEST_IR_VERSION = 15, 9


def bodies(model: onnx.ModelProto) -> dict[str, onnx.FunctionProto]:
    """The model's functions that compute the ``onnxnorm`` operator of their name, by this name.

    One that another tool put there may compute anything: where there is no library, its numbers
    would come out in place of the operator's.
    """
    return {body.name: body for body in model.functions if _is_body(body)}


def foreign_bodies(model: onnx.ModelProto) -> tuple[str, ...]:
    """A line for each function with the name of an operator that does not compute it."""
    return tuple(
        f"the function {DOMAIN}::{function.name} is not the operator's body, so that the file may "
        "compute something else where there is no native library; optimize replaces it"
        for function in model.functions
        if function.domain == DOMAIN and function.name in OPERATOR_NAMES and not _is_body(function)
    )


def _is_body(function: onnx.FunctionProto) -> bool:
    return (
        function.domain == DOMAIN
        and not _overload(function)
        and operator_name(function) == function.name
    )


def _overload(message: onnx.FunctionProto | onnx.NodeProto) -> str:
    return str(getattr(message, "overload", ""))  # since onnx 1.16


def computes(function: onnx.FunctionProto, node: onnx.NodeProto) -> bool:
    """Whether the function takes every input and attribute that the node of its name gives."""
    declared = {*function.attribute, *(attribute.name for attribute in function.attribute_proto)}
    given = {attribute.name for attribute in node.attribute}
    is_called = _overload(node) == _overload(function)
    return is_called and len(node.input) <= len(function.input) and given <= declared


def needs_library(model: onnx.ModelProto) -> bool:
    """Whether the model has a node of the ``onnxnorm`` domain that no function of it computes."""
    functions = bodies(model)
    return not all(
        node.op_type in functions and computes(functions[node.op_type], node)
        for node in our_nodes(model)
    )


def complete(model: onnx.ModelProto) -> None:
    """Gives the model the functions of the optimized form that its nodes need, in place.

    A function that computes the operator, and all nodes, of its name stays, one that does not is
    replaced, or removed where no function does; so is one that no node uses.
    """
    nodes = defaultdict(list)
    for node in our_nodes(model):
        nodes[node.op_type].append(node)
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    kept = {
        name
        for name, body in bodies(model).items()
        if name in nodes and _computes_all(body, nodes[name])
    }
    keep_only(
        model.functions,
        lambda body: body.domain != DOMAIN or (body.name in kept and not _overload(body)),
    )
    for name in sorted(nodes.keys() - kept):
        operator = operator_of(nodes[name][0])
        if operator is None or opset < _OLDEST_OPSET:
            continue
        function = optimized_function(operator, opset, name.startswith(RESIDUAL))
        if not _computes_all(function, nodes[name]):
            continue
        model.functions.append(function)
        model.ir_version = max(model.ir_version, _OLDEST_IR_VERSION)
        for node in nodes[name]:
            _spell_out(function, node)


def _computes_all(function: onnx.FunctionProto, nodes: list[onnx.NodeProto]) -> bool:
    return all(computes(function, node) for node in nodes)


def _spell_out(function: onnx.FunctionProto, node: onnx.NodeProto) -> None:
    """Writes the defaults of a function's attributes into the node: onnx.reference knows none."""
    given = {attribute.name for attribute in node.attribute}
    node.attribute.extend(a for a in function.attribute_proto if a.name not in given)


def our_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Those of the graph and in functions of other domains, subgraphs included."""
    for graph in all_graphs(model.graph):
        yield from (node for node in graph.node if node.domain == DOMAIN)
    for function in model.functions:
        if function.domain == DOMAIN:
            continue
        for node in function.node:
            held = [inner for graph in subgraphs(node) for inner in all_graphs(graph)]
            inside = [deeper for graph in held for deeper in graph.node]
            yield from (each for each in (node, *inside) if each.domain == DOMAIN)
