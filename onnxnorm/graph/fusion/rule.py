"""What a fusion is: three questions about a normalization node and its neighbours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import onnx

from onnxnorm.graph.fusion.scope import Scope
from onnxnorm.graph.nodes import attributes_of, keep_only


@dataclass(frozen=True)
class Match:
    """Nodes that a normalization node could take in.

    Attributes:
        places: their places in the graph.
        told: what they are, for people.
    """

    places: frozenset[int]
    told: str


M = TypeVar("M", bound=Match)


class Rule(ABC, Generic[M]):
    """One fusion."""

    @abstractmethod
    def pattern(self, scope: Scope, place: int) -> Iterable[M]:
        """What the node at a place could take in, the most first."""

    @abstractmethod
    def check(self, scope: Scope, place: int, match: M) -> str:
        """Why it may not; empty where it may."""

    @abstractmethod
    def rewrite(self, scope: Scope, place: int, match: M) -> onnx.NodeProto:
        """The node that takes the place of all of them."""


def describe(node: onnx.NodeProto) -> str:
    """The node for people."""
    return f"{node.op_type} {next(filter(None, [node.name, *node.output]), '')!r}"


def seen_outside(scope: Scope, values: Iterable[str], places: Iterable[int]) -> str:
    """Who but the nodes at the given places needs one of the values; empty where nobody does."""
    inside = set(places)
    for value in values:
        if value in scope.outputs:
            return f"{value!r} is an output of the graph"
        others = [scope.node(reader) for reader in scope.readers(value) if reader not in inside]
        if others:
            return f"{value!r} is read by {', '.join(map(describe, others))} too"
    return ""


def has_activation(node: onnx.NodeProto) -> bool:
    """Whether a normalization node has taken in an activation."""
    return bool(attributes_of(node).get("activation"))


def replaced(node: onnx.NodeProto, output: str, **attributes: object) -> onnx.NodeProto:
    """A copy of the node with another output, and with attributes in place of what it has."""
    result = onnx.NodeProto()
    result.CopyFrom(node)
    result.output[0] = output
    keep_only(result.attribute, lambda attribute: attribute.name not in attributes)
    result.attribute.extend(
        onnx.helper.make_attribute(name, value) for name, value in sorted(attributes.items())
    )
    return result
