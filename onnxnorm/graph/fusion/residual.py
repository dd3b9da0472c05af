"""norm → add: what is added to the result of a normalization node goes into it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx

from onnxnorm.graph.fusion.rule import (
    Match,
    Rule,
    describe,
    has_activation,
    replaced,
    seen_outside,
)
from onnxnorm.graph.fusion.scope import Scope
from onnxnorm.graph.fusion.shapes import Shape
from onnxnorm.opset import RESIDUAL

STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class ResidualMatch(Match):
    """An addition, its two operands and its result."""

    data: str
    residual: str
    output: str


class Residual(Rule[ResidualMatch]):
    """y = norm(x) + residual."""

    def pattern(self, scope: Scope, place: int) -> Iterable[ResidualMatch]:
        node = scope.node(place)
        if len(node.input) > 3 or has_activation(node):
            return
        for reader in scope.readers(node.output[0]):
            addition = scope.node(reader)
            if is_addition(addition) and list(addition.input).count(node.output[0]) == 1:
                yield match_of(addition, reader, node.output[0])

    def check(self, scope: Scope, place: int, match: ResidualMatch) -> str:
        return seen_outside(scope, [match.data], match.places) or broadcast(scope, match)

    def rewrite(self, scope: Scope, place: int, match: ResidualMatch) -> onnx.NodeProto:
        return with_residual(replaced(scope.node(place), match.output), match.residual)


def with_residual(node: onnx.NodeProto, residual: str) -> onnx.NodeProto:
    """The node as one of the operator with a residual."""
    node.op_type = f"{RESIDUAL}{node.op_type}"
    node.input.append(residual)
    return node


def is_addition(node: onnx.NodeProto) -> bool:
    return node.op_type == "Add" and node.domain in STANDARD


def match_of(addition: onnx.NodeProto, place: int, data: str) -> ResidualMatch:
    """An addition with one of its operands as the data."""
    (residual,) = [name for name in addition.input if name != data]
    return ResidualMatch(frozenset({place}), describe(addition), data, residual, addition.output[0])


def broadcast(scope: Scope, match: ResidualMatch) -> str:
    """Where it can be seen that the addition repeats one of its operands; else empty.

    Of unknown sizes it is not known, and the kernel does as the addition does. A constant is read
    from memory like any other operand, but a small one has cost the addition next to nothing.
    """
    data, residual = scope.shapes[match.data], scope.shapes[match.residual]
    if data is None or residual is None:
        is_constant = match.residual in scope.constants or match.data in scope.constants
        return "a constant, of unknown shape against the other operand" if is_constant else ""
    if len(data) != len(residual) or any(map(_repeats, data, residual)):
        return f"it broadcasts {_text(data)} and {_text(residual)}"
    return ""


def _repeats(a: int | str | None, b: int | str | None) -> bool:
    if isinstance(a, int) and isinstance(b, int):
        return a != b
    return 1 in (a, b)


def _text(shape: Shape) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"
