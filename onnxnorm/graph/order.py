"""Topological order: nodes behind those whose results they read, as ONNX asks for.

Tools that append nodes at the end of a graph, such as ONNX Runtime's float16 converter, leave them
in no such order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import onnx

from onnxnorm.errors import ModelFileError
from onnxnorm.graph.nodes import subgraphs


def sort(model: onnx.ModelProto, source: str = "the model") -> bool:
    """Puts the nodes of every graph and function of a model in topological order, in place.

    A node that stands behind a reader of its result moves to just before that reader; all others
    keep their order. Takes time in proportion to the model's size.

    Args:
        model: changed in place.
        source: what an error calls it.

    Returns:
        whether a node was moved.

    Raises:
        ModelFileError: nodes form a cycle.
    """
    sorter = _Sorter(source)
    sorter.sort_graph(model.graph)
    for function in model.functions:
        sorter.sort_nodes(function.node)
    return sorter.has_moved


class _Sorter:
    def __init__(self, source: str) -> None:
        self._source = source
        self.has_moved = False

    def sort_graph(self, graph: onnx.GraphProto) -> dict[str, None]:
        """Sorts a graph and the graphs inside it.

        Returns:
            the names that it reads from outside, in order: it may have values of its own that are
            called like values elsewhere.
        """
        read = self.sort_nodes(graph.node)
        read.update((value.name, None) for value in graph.output)
        own = {name for node in graph.node for name in node.output}
        own.update(value.name for value in (*graph.input, *graph.initializer))
        own.update(tensor.values.name for tensor in graph.sparse_initializer)
        return {name: None for name in read if name not in own}

    def sort_nodes(self, nodes: Any) -> dict[str, None]:
        """Sorts a repeated field of nodes and the graphs inside them.

        Returns:
            the names that the nodes read.
        """
        held = list(nodes)
        reads = [self._read_by(node) for node in held]
        order = list(_places_in_order(held, reads, self._source))
        if order != list(range(len(held))):
            self.has_moved = True
            del nodes[:]
            nodes.extend(held[place] for place in order)
        return {name: None for read in reads for name in read}

    def _read_by(self, node: onnx.NodeProto) -> dict[str, None]:
        read = {name: None for name in node.input if name}
        for graph in subgraphs(node):
            read.update(self.sort_graph(graph))
        return read


def _places_in_order(
    nodes: Sequence[onnx.NodeProto], reads: Sequence[dict[str, None]], source: str
) -> Iterator[int]:
    """The places of the nodes, each behind the places of the nodes that it reads from.

    Raises:
        ModelFileError: nodes form a cycle.
    """
    makers: dict[str, int] = {}
    for place, node in enumerate(nodes):
        for name in node.output:
            makers.setdefault(name, place)
    is_done = [False] * len(nodes)
    is_open = [False] * len(nodes)

    def makers_before(place: int) -> Iterator[int]:
        is_open[place] = True
        return iter(sorted({makers[name] for name in reads[place] if name in makers}))

    for first in range(len(nodes)):
        # A stack of its own, as chains of nodes are longer than Python's recursion goes.
        path = [] if is_done[first] else [(first, makers_before(first))]
        while path:
            place, rest = path[-1]
            waiting = next((maker for maker in rest if not is_done[maker]), None)
            if waiting is None:
                path.pop()
                is_done[place] = True
                yield place
            elif is_open[waiting]:
                node = nodes[waiting]
                raise ModelFileError(
                    f"{source}: the nodes form a cycle: {node.op_type} "
                    f"{node.name or node.output[0]!r} reads a value that depends on its own result"
                )
            else:
                path.append((waiting, makers_before(waiting)))
