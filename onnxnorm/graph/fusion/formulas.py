"""The activations that a normalization node can take in, each recognized by its formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from onnxnorm.graph.fusion.elementwise import fast_gelu, gelu, hard_swish, swish
from onnxnorm.graph.fusion.expression import (
    Atom,
    Form,
    X,
    apply,
    clip,
    elu,
    leaky_relu,
    odd,
    relu,
)

Parameters = tuple[float, ...]


def _none(form: Form) -> Parameters:
    return ()


def _bounds(form: Form) -> Parameters | None:
    atom = form.atom
    return atom.parameters if atom is not None and atom.function == "Clip" else None


def _slope(form: Form) -> Parameters | None:
    slope = form.coefficients.get(_X, 0.0)
    return (slope,) if slope != 1 else None  # x itself


def _elu(form: Form) -> Parameters | None:
    """alpha and gamma of gamma · elu(x, alpha)."""
    values = [value for product, value in form.terms if any(a.function == "Elu" for a in product)]
    below = form.coefficients.get(apply("Elu", X).terms[0][0], 0.0)
    return (below / sum(values), sum(values)) if values and sum(values) else None


def _elu_alone(form: Form) -> Parameters | None:
    found = _elu(form)
    return found[:1] if found else None


def _gate(form: Form) -> Parameters | None:
    atoms = [atom for product, _ in form.terms for atom in product if atom.function == "Sigmoid"]
    argument = atoms[0].argument if atoms else None
    return (argument.coefficients.get(_X, 0.0),) if argument else None


_X = (Atom("x"),)


@dataclass(frozen=True)
class Formula:
    """One activation.

    Attributes:
        parameters: the only parameters with which a form can be this activation, or None.
        form: the activation of x with these parameters.
    """

    parameters: Callable[[Form], Parameters | None]
    form: Callable[..., Form]


FORMULAS: Mapping[str, Formula] = MappingProxyType(
    {
        "Relu": Formula(_none, lambda: relu(X)),
        "Clip": Formula(_bounds, lambda low, high: clip(X, low, high)),
        "LeakyRelu": Formula(_slope, lambda alpha: leaky_relu(X, alpha)),
        "Elu": Formula(_elu_alone, lambda alpha: elu(X, alpha)),
        "Selu": Formula(_elu, lambda alpha, gamma: elu(X, alpha) * gamma),
        "Gelu": Formula(_none, lambda: gelu(X)),
        "FastGelu": Formula(_none, lambda: fast_gelu(X)),
        "Swish": Formula(_gate, lambda alpha: swish(X, alpha)),
        "Sigmoid": Formula(_none, lambda: apply("Sigmoid", X)),
        "Tanh": Formula(_none, lambda: odd("Tanh", X)),
        "Softplus": Formula(_none, lambda: apply("Softplus", X)),
        "HardSwish": Formula(_none, lambda: hard_swish(X)),
    }
)


def recognize(form: Form, tolerance: float) -> tuple[str, Parameters] | None:
    """The activation that a formula is, and its parameters.

    Args:
        form: the formula.
        tolerance: how far its numbers may be off those of the activation, relatively.
    """
    for name, formula in FORMULAS.items():
        found = formula.parameters(form)
        if found is None:
            continue
        # A float attribute holds them.
        parameters = tuple(float(np.float32(value)) for value in found)
        if formula.form(*parameters).agrees(form, tolerance):
            return name, parameters
    return None
