"""Makes tf2onnx convert one model to the same file each time, in every process.

The order in which a Python set is walked depends on where its elements lie in memory, or on the
process's hash seed, and tf2onnx numbers nodes, and chooses among equal ones, in that order.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, MutableSet
from contextlib import contextmanager
from typing import Any

from onnxnorm.graph.nodes import free_name


class OrderedSet(MutableSet[Any]):
    """A set that is walked in the order in which its elements came; it has the methods of one."""

    def __init__(self, elements: Iterable[Any] = ()) -> None:
        self._elements = dict.fromkeys(elements)

    def __contains__(self, element: object) -> bool:
        return element in self._elements

    def __iter__(self) -> Iterator[Any]:
        return iter(self._elements)

    def __len__(self) -> int:
        return len(self._elements)

    def __repr__(self) -> str:
        return f"OrderedSet({list(self)!r})"

    def __and__(self, other: Iterable[Any]) -> OrderedSet:
        return self.intersection(other)

    __rand__ = __and__

    def add(self, element: Any) -> None:
        """Adds an element at the end, if it is not there."""
        self._elements[element] = None

    def discard(self, element: Any) -> None:
        """Removes an element, if it is there."""
        self._elements.pop(element, None)

    def update(self, *others: Iterable[Any]) -> None:
        """Adds the elements of others."""
        for other in others:
            self._elements.update(dict.fromkeys(other))

    def copy(self) -> OrderedSet:
        """A set of the same elements."""
        return OrderedSet(self)

    def union(self, *others: Iterable[Any]) -> OrderedSet:
        """The elements of this set and of others."""
        result = self.copy()
        result.update(*others)
        return result

    def difference(self, *others: Iterable[Any]) -> OrderedSet:
        """The elements of this set that are in no other."""
        away = set().union(*others)
        return OrderedSet(element for element in self if element not in away)

    def intersection(self, *others: Iterable[Any]) -> OrderedSet:
        """The elements of this set that are in every other."""
        kept = set(self).intersection(*others)
        return OrderedSet(element for element in self if element in kept)

    def issubset(self, other: Iterable[Any]) -> bool:
        """Whether every element is in the other."""
        return self <= OrderedSet(other)

    def issuperset(self, other: Iterable[Any]) -> bool:
        """Whether every element of the other is in this set."""
        return OrderedSet(other) <= self


@contextmanager
def ordered_sets(tf2onnx: Any) -> Iterator[None]:
    """While it is open, the sets of tf2onnx's modules are ordered, and its numbers begin anew."""
    modules = [
        module
        for name, module in sys.modules.items()
        if name.partition(".")[0] == "tf2onnx" and module is not None and "set" not in vars(module)
    ]
    number = tf2onnx.utils.INTERNAL_NAME
    tf2onnx.utils.INTERNAL_NAME = 1
    for module in modules:
        vars(module)["set"] = OrderedSet
    try:
        yield
    finally:
        for module in modules:
            del vars(module)["set"]
        tf2onnx.utils.INTERNAL_NAME = max(number, tf2onnx.utils.INTERNAL_NAME)


def name_functions(graph_def: Any) -> None:
    """Names a graph's functions, in place, without the numbers that count those of the process.

    They stand in the order in which the graph refers to them, which TensorFlow does not keep.
    """
    functions = {function.signature.name: function for function in graph_def.library.function}
    names: dict[str, str] = {}
    taken: set[str] = set()
    waiting = list(_references(graph_def.node))
    while waiting:
        name = waiting.pop(0)
        if name in functions and name not in names:
            names[name] = free_name(re.sub(r"_\d+$", "", name), taken)
            waiting += _references(functions[name].node_def)
    for name in sorted(functions.keys() - names.keys()):
        names[name] = free_name(name, taken)
    for function in functions.values():
        function.signature.name = names[function.signature.name]
    for nodes in (graph_def.node, *(function.node_def for function in functions.values())):
        for node in nodes:
            node.op = names.get(node.op, node.op)
            for held in _function_attributes(node):
                held.name = names.get(held.name, held.name)
    for gradient in graph_def.library.gradient:
        gradient.function_name = names.get(gradient.function_name, gradient.function_name)
        gradient.gradient_func = names.get(gradient.gradient_func, gradient.gradient_func)
    places = {name: place for place, name in enumerate(names.values())}
    graph_def.library.function.sort(key=lambda function: places[function.signature.name])


def _references(nodes: Iterable[Any]) -> Iterator[str]:
    for node in nodes:
        yield node.op
        yield from (held.name for held in _function_attributes(node))


def _function_attributes(node: Any) -> Iterator[Any]:
    for _, attribute in sorted(node.attr.items()):
        if attribute.HasField("func"):
            yield attribute.func
        yield from attribute.list.func
