"""Small readings of and changes to ONNX graphs that several passes share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import onnx
from onnx import helper

Attributes = dict[str, Any]


def attributes_of(node: onnx.NodeProto) -> Attributes:
    """The node's attributes as Python values; ``"@name"`` for one of the function it stands in."""
    return {
        a.name: f"@{a.ref_attr_name}" if a.ref_attr_name else helper.get_attribute_value(a)
        for a in node.attribute
    }


def set_attributes(node: onnx.NodeProto, attributes: Attributes) -> None:
    """Replaces the node's attributes."""
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(k, v) for k, v in sorted(attributes.items()))


def consumers(graph: onnx.GraphProto, value: str) -> list[onnx.NodeProto]:
    """Nodes of the graph that read a value, those that read it in a subgraph included."""
    return [
        node
        for node in graph.node
        if value in node.input or any(consumers(inner, value) for inner in subgraphs(node))
    ]


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in the node's attributes: loop bodies and branches."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and every graph inside it."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from all_graphs(inner)


def read_by(node: onnx.NodeProto) -> set[str]:
    """Every name that the node reads, or that a graph inside it does."""
    inner = (graph for held in subgraphs(node) for graph in all_graphs(held))
    names = {
        name
        for graph in inner
        for source in (*(list(n.input) for n in graph.node), [v.name for v in graph.output])
        for name in source
    }
    return {name for name in names | set(node.input) if name}


def free_name(name: str, taken: set[str]) -> str:
    """A name like this one that is not taken; it is from then on."""
    candidates = itertools.chain([name], (f"{name}_{count}" for count in itertools.count(1)))
    free = next(candidate for candidate in candidates if candidate not in taken)
    taken.add(free)
    return free


def drop_unused_initializers(graph: onnx.GraphProto) -> None:
    """Removes initializers that no node reads, no output names and that are no input's default."""
    used = {value.name for value in (*graph.output, *graph.input)}
    for inner in all_graphs(graph):
        used.update(name for node in inner.node for name in node.input)
        used.update(value.name for value in inner.output)
    keep_only(graph.initializer, lambda tensor: tensor.name in used)


def set_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Replaces the graph's nodes."""
    nodes = list(nodes)
    del graph.node[:]
    graph.node.extend(nodes)


def keep_only(field: Any, condition: Callable[[Any], bool]) -> None:
    """Removes from a repeated field of a message what does not meet the condition."""
    # Sorting moves the entries, of which none is copied, and keeps those that stay in order.
    kept = sum(map(bool, map(condition, field)))
    if kept < len(field):
        field.sort(key=lambda entry: not condition(entry))
        del field[kept:]


def copy_fields(
    source: onnx.ModelProto | onnx.GraphProto | onnx.TensorProto,
    target: onnx.ModelProto | onnx.GraphProto | onnx.TensorProto,
    leave: str,
) -> None:
    """Copies every field of a message but one, so that what it holds need not be copied."""
    for field in source.DESCRIPTOR.fields:
        if field.name == leave:
            continue
        # Whether a field is set is asked before its value: to look at bytes is to copy them.
        held = getattr(source, field.name) if _is_set(source, field.name) else None
        if held is None:
            continue
        if hasattr(held, "MergeFrom"):
            getattr(target, field.name).MergeFrom(held)
        else:
            setattr(target, field.name, held)


def _is_set(message: Any, name: str) -> bool:
    try:
        return bool(message.HasField(name))
    except ValueError:  # of a repeated field
        return len(getattr(message, name)) > 0
