"""What the standard elementwise operators compute, as formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import onnx

from onnxnorm.graph.fusion.expression import (
    Form,
    NoFormula,
    apply,
    clip,
    elu,
    hard_sigmoid,
    is_boolean,
    leaky_relu,
    maximum,
    minimum,
    odd,
    positive,
    power,
    relu,
    where,
)
from onnxnorm.graph.nodes import Attributes, attributes_of

Operator = Callable[..., Form]


def form(node: onnx.NodeProto, inputs: Sequence[Form | None]) -> Form:
    """The node's output in terms of its inputs; None for an input that is left out.

    Raises:
        NoFormula: it is no elementwise operator that an activation is made of.
    """
    operator = OPERATORS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if operator is None or len(node.output) != 1 or _takes_attributes_of_a_function(node):
        raise NoFormula
    try:
        return operator(attributes_of(node), *inputs)
    except (TypeError, AttributeError, ArithmeticError) as error:
        # An input more or less than is known here, or a division by zero.
        raise NoFormula from error


def gelu(x: Form) -> Form:
    return x * 0.5 * (1 + odd("Erf", x * math.sqrt(0.5)))


def fast_gelu(x: Form) -> Form:
    return x * 0.5 * (1 + odd("Tanh", math.sqrt(2 / math.pi) * (x + 0.044715 * power(x, 3))))


def swish(x: Form, alpha: float) -> Form:
    return x * apply("Sigmoid", x * alpha)


def hard_swish(x: Form) -> Form:
    return x * hard_sigmoid(x, 1 / 6, 0.5)


def _clip(
    attributes: Attributes, x: Form, low: Form | None = None, high: Form | None = None
) -> Form:
    # Up to version 6 of the operator the bounds were attributes.
    return clip(
        x,
        attributes.get("min", -math.inf) if low is None else number(low),
        attributes.get("max", math.inf) if high is None else number(high),
    )


def _gelu(attributes: Attributes, x: Form) -> Form:
    return fast_gelu(x) if attributes.get("approximate") == b"tanh" else gelu(x)


def _cast(attributes: Attributes, x: Form) -> Form:
    if not is_boolean(x):
        raise NoFormula
    return x


def number(form: Form) -> float:
    value = form.constant
    if value is None:
        raise NoFormula
    return value


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "Add": lambda _, a, b: a + b,
        "Cast": _cast,
        "Clip": _clip,
        "Div": lambda _, a, b: a * (1 / number(b)),
        "Elu": lambda attributes, x: elu(x, attributes.get("alpha", 1.0)),
        "Erf": lambda _, x: odd("Erf", x),
        "Gelu": _gelu,
        "Greater": lambda _, a, b: positive(a - b),
        "GreaterOrEqual": lambda _, a, b: positive(a - b),
        "HardSigmoid": lambda attributes, x: hard_sigmoid(
            x, attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
        ),
        "HardSwish": lambda _, x: hard_swish(x),
        "Identity": lambda _, x: x * 1.0,
        "LeakyRelu": lambda attributes, x: leaky_relu(x, attributes.get("alpha", 0.01)),
        "Less": lambda _, a, b: positive(b - a),
        "LessOrEqual": lambda _, a, b: positive(b - a),
        "Max": lambda _, a, b: maximum(a, b),
        "Min": lambda _, a, b: minimum(a, b),
        "Mul": lambda _, a, b: a * b,
        "Neg": lambda _, x: x * -1.0,
        "Not": lambda _, x: 1 - x,
        "Pow": lambda _, a, b: power(a, number(b)),
        "Relu": lambda _, x: relu(x),
        "Selu": lambda attributes, x: (
            elu(x, attributes.get("alpha", 1.67326319217681884765625))
            * attributes.get("gamma", 1.05070102214813232421875)
        ),
        "Sigmoid": lambda _, x: apply("Sigmoid", x),
        "Softplus": lambda _, x: apply("Softplus", x),
        "Sub": lambda _, a, b: a - b,
        "Swish": lambda attributes, x: swish(x, attributes.get("alpha", 1.0)),
        "Tanh": lambda _, x: odd("Tanh", x),
        "Where": lambda _, condition, a, b: where(condition, a, b),
    }
)


def _takes_attributes_of_a_function(node: onnx.NodeProto) -> bool:
    return any(attribute.ref_attr_name for attribute in node.attribute)
