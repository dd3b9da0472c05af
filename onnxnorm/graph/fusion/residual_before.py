"""add → norm: the addition that makes the input of a layer or RMS normalization goes into it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import onnx

from onnxnorm.graph.fusion.residual import (
    ResidualMatch,
    broadcast,
    is_addition,
    match_of,
    with_residual,
)
from onnxnorm.graph.fusion.rule import Rule, replaced, seen_outside
from onnxnorm.graph.fusion.scope import Scope

OPERATORS = frozenset({"LayerNormalization", "RMSNormalization"})


class ResidualBefore(Rule[ResidualMatch]):
    """y = norm(x + residual)."""

    def pattern(self, scope: Scope, place: int) -> Iterable[ResidualMatch]:
        node = scope.node(place)
        maker = scope.maker(node.input[0])
        if node.op_type not in OPERATORS or len(node.input) > 3 or maker is None:
            return
        addition = scope.node(maker)
        if is_addition(addition) and addition.input[0] != addition.input[1]:
            match = match_of(addition, maker, addition.input[0])
            yield replace(match, told=f"{match.told} before it")

    def check(self, scope: Scope, place: int, match: ResidualMatch) -> str:
        if match.output in scope.node(place).input[1:]:
            return f"{match.output!r} is a parameter of the node too"
        return seen_outside(scope, [match.output], [place]) or broadcast(scope, match)

    def rewrite(self, scope: Scope, place: int, match: ResidualMatch) -> onnx.NodeProto:
        node = scope.node(place)
        result = replaced(node, node.output[0], residual_stage="input")
        result.input[0] = match.data
        return with_residual(result, match.residual)
