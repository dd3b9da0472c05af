"""Loop bodies and branches in which no value has the name of a value elsewhere.

ONNX allows it, and two loops of one TensorFlow function have it. But when tf2onnx's optimizers put
one value in the place of another, they do so in every body that has one of that name: a backward
recurrent layer then reads the mask of the forward one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def unique_names_optimizer() -> type:
    """An entry for tf2onnx's optimizer table, which has to come before all others."""
    from tf2onnx.optimizer.optimizer_base import GraphOptimizerBase

    class UniqueNames(GraphOptimizerBase):  # type: ignore[misc] # untyped
        def _optimize(self, graph: Any) -> Any:
            taken = set(_made(graph))
            for body in _bodies(graph):
                renamed = {name: _free(name, taken) for name in _made(body) if name in taken}
                for inner in (body, *_bodies(body)):
                    inner.rename_tensors(renamed)
                taken.update(_made(body))
            return graph

    return UniqueNames


def _bodies(graph: Any) -> Iterator[Any]:
    """The graphs inside a graph, outer ones first."""
    for node in graph.get_nodes():
        for body in (node.get_body_graphs() or {}).values():
            yield body
            yield from _bodies(body)


def _made(graph: Any) -> list[str]:
    return [name for node in graph.get_nodes() for name in node.output if name]


def _free(name: str, taken: set[str]) -> str:
    stem, colon, port = name.rpartition(":")
    count = 1
    while (candidate := f"{stem}_{count}{colon}{port}") in taken:
        count += 1
    taken.add(candidate)
    return candidate
