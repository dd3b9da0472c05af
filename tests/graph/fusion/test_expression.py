"""The normal form computes what the operators compute, whatever they are put together to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxnorm.graph.fusion import elementwise
from onnxnorm.graph.fusion.expression import Atom, Form, NoFormula, X, as_form, relu
from onnxnorm.graph.fusion.formulas import recognize
from onnxnorm.opset.activations import ACTIVATIONS
from tests.graph.fusion.evaluation import Array

POINTS = np.concatenate([np.linspace(-9, 9, 181), [-40.0, 40.0, 1e-3, -1e-3]])

_erf = np.vectorize(math.erf)
ATOMS: dict[str, Callable[..., Array]] = {
    "Elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "Erf": _erf,
    "Positive": lambda x: (x > 0).astype(np.float64),
    "Sigmoid": ACTIVATIONS["Sigmoid"],
    "Softplus": ACTIVATIONS["Softplus"],
    "Tanh": np.tanh,
    "Clip": np.clip,
}
# Operators of one input, as ONNX defines them.
UNARY: dict[str, tuple[dict[str, float], Callable[[Array], Array]]] = {
    "Elu": ({"alpha": 0.5}, lambda x: np.where(x > 0, x, 0.5 * np.expm1(np.minimum(x, 0)))),
    "Erf": ({}, _erf),
    "HardSigmoid": ({"alpha": 0.25, "beta": 0.5}, lambda x: np.clip(0.25 * x + 0.5, 0, 1)),
    "HardSwish": ({}, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "Identity": ({}, lambda x: x),
    "LeakyRelu": ({"alpha": 0.25}, lambda x: np.where(x < 0, 0.25 * x, x)),
    "Neg": ({}, np.negative),
    "Relu": ({}, lambda x: np.maximum(x, 0)),
    "Sigmoid": ({}, ACTIVATIONS["Sigmoid"]),
    "Softplus": ({}, ACTIVATIONS["Softplus"]),
    "Tanh": ({}, np.tanh),
    "Gelu": ({}, ACTIVATIONS["Gelu"]),
}
BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "Mul": np.multiply,
    "Pow": np.power,
    "Sub": np.subtract,
}


def value(form: Form, x: Array) -> Array:
    """The form at x."""

    def of_atom(atom: Atom) -> Array:
        if atom.argument is None:
            return x
        return ATOMS[atom.function](value(atom.argument, x), *atom.parameters)

    total = np.zeros_like(x)
    for product, coefficient in form.terms:
        total = total + coefficient * np.prod([np.ones_like(x), *map(of_atom, product)], axis=0)
    return total


def node(operator: str, count: int, **attributes: Any) -> onnx.NodeProto:
    names = [f"i{k}" for k in range(count)]
    return onnx.helper.make_node(operator, names, ["o"], **attributes)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_form_and_operators_agree(data: st.DataObject) -> None:
    known: list[tuple[Form, Array]] = [(X, POINTS)]
    constants = st.sampled_from([-3.0, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 6.0])
    for _ in range(data.draw(st.integers(1, 5))):
        form, array = data.draw(st.sampled_from(known))
        operator = data.draw(st.sampled_from([*UNARY, *BINARY]))
        try:
            if operator in UNARY:
                attributes, function = UNARY[operator]
                made = elementwise.form(node(operator, 1, **attributes), [form])
                known.append((made, function(array)))
                continue
            number = data.draw(constants)
            pairs = [
                (as_form(number), np.full_like(POINTS, number)),
                data.draw(st.sampled_from(known)),
            ]
            (other, values) = data.draw(st.sampled_from(pairs))
            operands = [(form, array), (other, values)]
            if operator not in ("Div", "Pow") and data.draw(st.booleans()):
                operands.reverse()
            (a, left), (b, right) = operands
            made = elementwise.form(node(operator, 2), [a, b])
        except NoFormula:
            continue
        known.append((made, BINARY[operator](left, right)))
    for form, array in known:
        scale = 1 + np.abs(array).max()
        if scale < 1e6:
            np.testing.assert_allclose(value(form, POINTS), array, atol=1e-9 * scale, rtol=1e-9)
            found = recognize(form, 1e-12)
            if found:
                activation, parameters = found
                wanted = ACTIVATIONS[activation](POINTS, *parameters)
                np.testing.assert_allclose(wanted, array, atol=1e-9 * scale, rtol=1e-9)


@pytest.mark.parametrize(
    ("operator", "inputs"),
    [
        ("Div", [X, as_form(0.0)]),
        ("Div", [as_form(1.0), X]),
        ("Pow", [X, as_form(0.5)]),
        ("Pow", [as_form(2.0), X]),
        ("Clip", [X, as_form(6.0), as_form(0.0)]),
        ("Clip", [relu(X), as_form(math.nan)]),
        ("Clip", [relu(X), as_form(1.0), as_form(math.nan)]),
        ("Max", [X, X, X]),
        ("Max", [X, X * -1.0]),
        ("Cast", [X]),
        ("Relu", [as_form(1.0)]),
        ("Add", [X, None]),
        ("Softsign", [X]),
    ],
)
def test_what_has_no_formula(operator: str, inputs: list[Any]) -> None:
    with pytest.raises(NoFormula):
        elementwise.form(node(operator, len(inputs)), inputs)


def test_a_formula_that_grows_too_long() -> None:
    def grown(times: int) -> Form:
        form = X
        for _ in range(times):
            form = form * (form + elementwise.form(node("Tanh", 1), [form]))
        return form

    assert len(grown(2).terms) < 32
    with pytest.raises(NoFormula):
        grown(8)
