"""Einsum as a MatMul: the right numbers, with the fewest nodes, or left alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxnorm.graph.einsum import Plan, Step, plan

# How many sizes each letter has, and how many nodes an equation takes beside the MatMul.
SIZES = dict(zip("abcdefgh", (2, 3, 4, 5, 6, 7, 8, 9), strict=True))
EQUATIONS = {
    "ab,bc->ac": 0,
    "abc,cd->abd": 0,
    "ab,cb->ac": 1,
    "abc,abdc->abd": None,
    "aecd,abcd->acbe": 2,  # scores of Keras' attention
    "acbe,aecd->abcd": 2,  # and what they weigh
    "abc,cde->abde": 2,  # a projection to heads
    "abcd,cde->abe": 2,  # and back
    "abcd,cde->aeb": 3,
    "bca,cbd->abd": 2,
    "a,a->": None,
    "aab,bc->ac": None,
    "ab,cd->abcd": None,
    "abc,c->ab": None,
    "ab->ba": None,
    "ab,bc,cd->ad": None,
    "...b,bc->...c": None,
}


def evaluate(found: Plan, operands: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    left, right = (
        applied(steps, operands[position])
        for position, steps in zip(found.order, (found.left, found.right), strict=True)
    )
    return applied(found.result, np.matmul(left, right))


def applied(steps: Sequence[Step], x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    for step in steps:
        if step.operator == "Transpose":
            x = x.transpose(step.value)
        else:
            x = x.reshape([size or x.shape[axis] for axis, size in enumerate(step.value)])
        assert x.ndim == len(step.axes)
    return x


@pytest.mark.parametrize("equation", EQUATIONS)
def test_equation(equation: str) -> None:
    terms = equation.partition("->")[0].split(",")
    shapes = [[SIZES.get(letter, 2) for letter in term] for term in terms]
    found = plan(equation, shapes)
    wanted = EQUATIONS[equation]
    if wanted is None:
        assert found is None
        return
    assert found is not None
    assert len(found.left) + len(found.right) + len(found.result) == wanted
    operands = [np.random.default_rng(0).normal(size=shape) for shape in shapes]
    np.testing.assert_allclose(evaluate(found, operands), np.einsum(equation, *operands))


@given(st.data())
def test_any_equation_with_any_sizes_unknown(data: st.DataObject) -> None:
    letters = iter("abcdefgh")
    batch, rows, columns, summed = (
        [next(letters) for _ in range(data.draw(st.integers(least, 2)))] for least in (0, 1, 1, 1)
    )
    terms = [
        "".join(data.draw(st.permutations(letters)))
        for letters in ([*batch, *rows, *summed], [*batch, *columns, *summed])
    ]
    output = "".join(data.draw(st.permutations([*batch, *rows, *columns])))
    equation = f"{','.join(terms)}->{output}"
    operands = [np.random.default_rng(0).normal(size=[SIZES[x] for x in term]) for term in terms]
    unknown = data.draw(st.sets(st.sampled_from(sorted(set("".join(terms))))))
    shapes = [[-1 if x in unknown else SIZES[x] for x in term] for term in terms]
    found = plan(equation, shapes)
    assert found is not None or len(unknown) > 1
    if found is not None:
        np.testing.assert_allclose(evaluate(found, operands), np.einsum(equation, *operands))
