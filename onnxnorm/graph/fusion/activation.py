"""norm → activation: the elementwise nodes behind a normalization node go into it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
import onnx

from onnxnorm.graph.fusion import elementwise
from onnxnorm.graph.fusion.expression import Form, NoFormula, X, as_form
from onnxnorm.graph.fusion.formulas import Parameters, recognize
from onnxnorm.graph.fusion.rule import Match, Rule, has_activation, replaced, seen_outside
from onnxnorm.graph.fusion.scope import Scope

# Keras' ELU layer, the longest form known, has nine nodes.
_MOST_NODES = 16

# Up to four constants, each rounded to the type it is stored in, meet in one number of a formula;
# people write those of gelu with six digits.
_TOLERANCES = {"float16": 4 * 2.0**-11, "bfloat16": 4 * 2.0**-8, "float64": 4 * 2.0**-53}
_FLOAT32_TOLERANCE = 1e-6


@dataclass(frozen=True)
class ActivationMatch(Match):
    """Elementwise nodes that are an activation together."""

    activation: str
    parameters: Parameters
    output: str


class Activation(Rule[ActivationMatch]):
    """y = activation(norm(x)), also behind the addition that the node already took in."""

    def pattern(self, scope: Scope, place: int) -> Iterable[ActivationMatch]:
        node = scope.node(place)
        if has_activation(node):
            return
        region = _Region(scope, node.output[0])
        for output in reversed(region.forms):
            places = region.places_before(output)
            if not places:
                continue
            found = recognize(region.forms[output], region.tolerance(places))
            if found:
                yield ActivationMatch(places, _told(*found), *found, output)

    def check(self, scope: Scope, place: int, match: ActivationMatch) -> str:
        made = {name for inner in match.places for name in scope.node(inner).output}
        return seen_outside(
            scope, [scope.node(place).output[0], *sorted(made - {match.output})], match.places
        )

    def rewrite(self, scope: Scope, place: int, match: ActivationMatch) -> onnx.NodeProto:
        parameters = {"activation_params": match.parameters} if match.parameters else {}
        node = scope.node(place)
        return replaced(node, match.output, activation=match.activation, **parameters)


class _Region:
    """The values that depend on one value and constants alone, through elementwise nodes.

    Attributes:
        forms: each value as a formula of the first, in the order of the graph.
    """

    def __init__(self, scope: Scope, source: str) -> None:
        self._scope, self._source = scope, source
        self.forms: dict[str, Form] = {source: X}
        queue = list(scope.readers(source))
        visited: set[int] = set()
        while queue and len(visited) < _MOST_NODES:
            place = heappop(queue)
            if place in visited:
                continue
            visited.add(place)
            node = scope.node(place)
            try:
                form = elementwise.form(node, [self._input(name) for name in node.input])
            except NoFormula:
                continue
            self.forms[node.output[0]] = form
            for reader in scope.readers(node.output[0]):
                heappush(queue, reader)

    def places_before(self, output: str) -> frozenset[int]:
        """The places of the nodes between the source and a value."""
        places: set[int] = set()
        waiting = [output]
        while waiting:
            value = waiting.pop()
            if value == self._source or value not in self.forms:
                continue
            place = self._scope.maker(value)
            assert place is not None  # a node made it
            if place not in places:
                places.add(place)
                waiting += self._scope.node(place).input
        return frozenset(places)

    def tolerance(self, places: Iterable[int]) -> float:
        """How far the numbers may be off, as the types of the constants have it."""
        names = [name for place in places for name in self._scope.node(place).input]
        numbers = (self._scope.number(name, self._source) for name in names)
        types = {str(number.dtype) for number in numbers if number is not None}
        return max(
            (_TOLERANCES.get(t, _FLOAT32_TOLERANCE) for t in types), default=_FLOAT32_TOLERANCE
        )

    def _input(self, name: str) -> Form | None:
        if not name:
            return None
        if name in self.forms:
            return self.forms[name]
        number = self._scope.number(name, self._source)
        if number is None or np.isnan(number).any():
            raise NoFormula
        return as_form(float(number.reshape(-1)[0]))


def _told(activation: str, parameters: Parameters) -> str:
    values = ", ".join(f"{value:.6g}" for value in parameters)
    return f"{activation}({values})" if values else activation
