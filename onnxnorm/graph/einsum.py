"""Einsum of two operands as the MatMul that it is.

tf2onnx takes an Einsum apart into two dozen nodes, most of which compute shapes, and ONNX Runtime's
own Einsum takes four times as long as a MatMul between Transposes. Attention is made of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Step:
    """A Transpose or a Reshape on the way.

    Attributes:
        operator: which of them.
        value: the perm, or the shape, in which 0 keeps an axis and one -1 stands for what is left.
        axes: the axes behind it, each named by the letters of the equation that are merged in it.
    """

    operator: str
    value: tuple[int, ...]
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """An Einsum as a MatMul.

    Attributes:
        order: positions of the operands that become the left and the right one.
        left: what is done to the left operand before.
        right: what is done to the right operand before.
        axes: of the MatMul's result.
        result: what is done to the result.
    """

    order: tuple[int, int]
    left: tuple[Step, ...]
    right: tuple[Step, ...]
    axes: tuple[str, ...]
    result: tuple[Step, ...]


def plan(equation: str, shapes: Sequence[Sequence[int]]) -> Plan | None:
    """How one MatMul computes an equation, with the fewest nodes round it.

    Args:
        equation: of Einsum.
        shapes: of the operands, -1 for an unknown size.

    Returns:
        None where there is no such way: not two operands, an ellipsis, an axis that occurs twice in
        an operand or in one operand only and not in the result, nothing to sum over or to keep of
        an operand, or several sizes missing for a Reshape.
    """
    terms, output = _terms(equation)
    if len(terms) != 2 or not all(term.isalpha() for term in (*terms, output)):
        return None
    if any(len(set(term)) < len(term) for term in (*terms, output)):
        return None
    sizes = _sizes(terms, shapes)
    plans = [_plan(terms, order, output, sizes) for order in ((0, 1), (1, 0))]
    possible = [found for found in plans if found is not None]
    return min(possible, key=lambda p: len(p.left) + len(p.right) + len(p.result), default=None)


def einsum_optimizer() -> type:
    """An entry for tf2onnx's optimizer table that makes every Einsum that it can a MatMul."""
    from tf2onnx.optimizer.optimizer_base import GraphOptimizerBase

    class EinsumAsMatMul(GraphOptimizerBase):  # type: ignore[misc] # untyped
        def _optimize(self, graph: Any) -> Any:
            return self._apply_optimization(graph, self._optimize_one_graph)

        def _optimize_one_graph(self, graph: Any) -> Any:
            for node in list(graph.get_nodes()):
                if node.type != "Einsum":
                    continue
                shapes = [graph.get_shape(name) for name in node.input]
                if None in shapes:
                    continue
                equation = node.get_attr_value("equation").decode()
                found = plan(equation, shapes)
                if found is not None:
                    _replace(graph, node, found, _sizes(_terms(equation)[0], shapes))
                    self.graph_been_opt = True
            return graph

    return EinsumAsMatMul


def _terms(equation: str) -> tuple[list[str], str]:
    given, _, output = equation.replace(" ", "").partition("->")
    return given.split(","), output


def _sizes(terms: Sequence[str], shapes: Sequence[Sequence[int]]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, -1))
    return sizes


def _plan(
    terms: Sequence[str], order: tuple[int, int], output: str, sizes: Mapping[str, int]
) -> Plan | None:
    left, right = (terms[position] for position in order)
    batch = [x for x in output if x in left and x in right]
    rows = [x for x in output if x in left and x not in right]
    columns = "".join(x for x in output if x in right and x not in left)
    summed = "".join(x for x in left if x in right and x not in output)
    if not (rows and columns and summed):
        return None
    if {*left, *right} != {*batch, *rows, *columns, *summed}:
        return None
    # A right operand of two axes takes a left one of any number of them.
    kept = (*batch, "".join(rows)) if batch else tuple(rows)
    product = (*kept, columns)
    ways = (
        _steps(left, (*kept, summed), sizes),
        _steps(right, (*batch, summed, columns), sizes),
        _split(product, output, sizes),
    )
    if any(way is None for way in ways):
        return None
    before_left, before_right, after = (way or () for way in ways)
    return Plan(order, before_left, before_right, product, after)


def _steps(term: str, groups: tuple[str, ...], sizes: Mapping[str, int]) -> tuple[Step, ...] | None:
    """An operand with its axes in the order of the groups and each group merged to one axis."""
    merged = "".join(groups)
    shape = _shape(tuple(merged), groups, sizes)
    return None if shape is None else (*_transposed(term, merged), *shape)


def _split(
    groups: tuple[str, ...], output: str, sizes: Mapping[str, int]
) -> tuple[Step, ...] | None:
    """A result whose axes are groups as one with an axis for each letter, in the output's order."""
    merged = "".join(groups)
    shape = _shape(groups, tuple(merged), sizes)
    return None if shape is None else (*shape, *_transposed(merged, output))


def _transposed(given: str, wanted: str) -> tuple[Step, ...]:
    if given == wanted:
        return ()
    return (Step("Transpose", tuple(given.index(x) for x in wanted), tuple(wanted)),)


def _shape(
    before: tuple[str, ...], after: tuple[str, ...], sizes: Mapping[str, int]
) -> tuple[Step, ...] | None:
    """The Reshape between two groupings of the same axes, none where they are one; None where
    sizes that it needs are unknown."""
    if before == after:
        return ()
    kept = next(i for i, pair in enumerate(zip(before, after, strict=False)) if len(set(pair)) > 1)
    rest = [_size(group, sizes) for group in after[kept:]]
    if rest.count(-1) > 1:
        return None
    return (Step("Reshape", (*[0] * kept, *rest), after),)


def _size(group: str, sizes: Mapping[str, int]) -> int:
    known = [sizes[letter] for letter in group]
    return -1 if -1 in known else math.prod(known)


def _replace(graph: Any, node: Any, found: Plan, sizes: Mapping[str, int]) -> None:
    from tf2onnx.utils import make_name

    inputs, outputs = list(node.input), list(node.output)
    dtype = graph.get_dtype(outputs[0])
    graph.remove_node(node.name)
    last = found.result[-1] if found.result else None

    def make(operator: str, tensors: list[str], axes: Sequence[str], step: Step | None) -> str:
        attributes = {}
        if operator == "Transpose" and step:
            attributes = {"perm": list(step.value)}
        elif step:
            shape = np.array(step.value, np.int64)
            tensors = [*tensors, graph.make_const(make_name(f"{node.name}_shape"), shape).output[0]]
        made = graph.make_node(
            operator,
            tensors,
            attr=attributes,
            name=node.name if step is last else make_name(node.name),
            outputs=outputs if step is last else None,
            shapes=[[_size(group, sizes) for group in axes]],
            dtypes=[dtype],
        )
        name: str = made.output[0]
        return name

    operands = []
    for position, steps in zip(found.order, (found.left, found.right), strict=True):
        tensor = inputs[position]
        for step in steps:
            tensor = make(step.operator, [tensor], step.axes, step)
        operands.append(tensor)
    tensor = make("MatMul", operands, found.axes, None)
    for step in found.result:
        tensor = make(step.operator, [tensor], step.axes, step)
