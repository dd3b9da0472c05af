"""The activations that a node of the domain can have swallowed: oracle and standard operators.

The names are those of ONNX operators (FastGelu: of ``com.microsoft``), in the string attribute
``activation`` of a node; the parameters are its attribute ``activation_params``, in the order of
the table. At ±inf each is the limit of its formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


@dataclass(frozen=True)
class Activation:
    """One activation.

    Attributes:
        function: the float64 oracle, ``function(x, *parameters)``, element by element.
        body: the activation ``y`` of ``x`` in standard ONNX operators: statements from opset 13 on,
            in operators that ONNX Runtime has for float32 and float64. The parameters are
            ``first`` and ``second``, and a number in braces is a constant of the type of x.
        parameters: name and default of each parameter; a node holds them all.
        float64_body: statements of their own for float64; empty where ``body`` serves.
    """

    function: Callable[..., Array]
    body: str
    parameters: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    float64_body: str = ""

    def __call__(self, x: Array, *parameters: float) -> Array:
        """The activation of x; without parameters, with its defaults."""
        with np.errstate(all="ignore"):
            return self.function(
                np.asarray(x, np.float64), *(parameters or self.parameters.values())
            )


def _gated(x: Array, gate: Array) -> Array:
    """x · gate; a gate that has closed stays closed for infinite x."""
    return np.where(gate == 0, 0.0, x * gate)


def _swish(x: Array, alpha: float) -> Array:
    return _gated(x, _sigmoid(alpha * x)) if alpha else x / 2


def _sigmoid(x: Array) -> Array:
    fall = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, fall, 1) / (1 + fall))


def _gelu(x: Array) -> Array:
    return _gated(x, 0.5 * _erfc(-x / math.sqrt(2)))


def _fast_gelu(x: Array) -> Array:
    # 0.5 · (1 + tanh(u)) is sigmoid(2 · u), which loses nothing where tanh is close to -1.
    return _gated(x, _sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


_ELU = """
    below = Min (x, {0.0})
    power = Exp (below)
    fall = Sub (power, {1.0})
    scaled = Mul (fall, first)
    is_positive = Greater (x, {0.0})
    y = Where (is_positive, x, scaled)
"""

# x · gate; a gate that has closed stays closed for infinite x.
_GATED = """
    is_closed = Equal (gate, {0.0})
    product = Mul (x, gate)
    y = Where (is_closed, {0.0}, product)
"""


# By way of float32 in both types, as ONNX Runtime has no Erf for float64.
_GELU = f"""
    z = Mul (x, {{{math.sqrt(0.5)!r}}})
    z_float = Cast <to = 1> (z)
    erf_float = Erf (z_float)
    erf = CastLike (erf_float, x)
    doubled = Add (erf, {{1.0}})
    gate = Mul (doubled, {{0.5}})
{_GATED}"""


def _gelu_for_float64() -> str:
    """The gate is the normal distribution function, without Erf.

    It is sigmoid(2 · pi · z / h) - h · z / pi · exp(-z²) · sum(exp(-t²) / (t² + z²)), where
    z = x / sqrt(2) and t = h / 2, 3 · h / 2, …: exact to 2e-16 with h = 1 / 2 and 13 terms.
    Beyond 38 it is 0 or 1.

    Source: Hunter and Regan, "A Note on the Evaluation of the Complementary Error Function", 1972.
    """
    step = 0.5
    squares = [((k + 0.5) * step) ** 2 for k in range(13)]
    weights = [step / (math.pi * math.sqrt(2)) * math.exp(-square) for square in squares]
    return f"""
    steep = Mul (x, {{{2 * math.pi / (step * math.sqrt(2))!r}}})
    step_gate = Sigmoid (steep)
    x_squared = Mul (x, x)
    z_squared = Mul (x_squared, {{0.5}})
    falling = Neg (z_squared)
    bell = Exp (falling)
    last = Constant <value_ints = [-1]> ()
    z_squared_column = Unsqueeze (z_squared, last)
    divisors = Add (z_squared_column, {{{_listed(squares)}}})
    terms = Div ({{{_listed(weights)}}}, divisors)
    sum = ReduceSum <keepdims = 0> (terms, last)
    weighted = Mul (bell, sum)
    correction = Mul (x, weighted)
    smooth_gate = Sub (step_gate, correction)
    is_far = Less (x, {{-38.0}})
    low_gate = Where (is_far, {{0.0}}, smooth_gate)
    is_high = Greater (x, {{38.0}})
    gate = Where (is_high, {{1.0}}, low_gate)
{_GATED}"""


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(map(repr, numbers))


ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        "Relu": Activation(lambda x: np.maximum(x, 0), "y = Max (x, {0.0})"),
        "Clip": Activation(
            lambda x, low, high: np.minimum(np.maximum(x, low), high),
            """
    raised = Max (x, first)
    y = Min (raised, second)
""",
            {"min": -math.inf, "max": math.inf},
        ),
        "LeakyRelu": Activation(
            lambda x, alpha: np.where(x < 0, alpha * x, x),
            """
    scaled = Mul (x, first)
    is_negative = Less (x, {0.0})
    y = Where (is_negative, scaled, x)
""",
            {"alpha": 0.01},
        ),
        "Elu": Activation(_elu, _ELU, {"alpha": 1.0}),
        "Selu": Activation(
            lambda x, alpha, gamma: gamma * _elu(x, alpha),
            f"{_ELU.replace('y =', 'elu =')}    y = Mul (elu, second)",
            {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875},
        ),
        "Gelu": Activation(_gelu, _GELU, float64_body=_gelu_for_float64()),
        "FastGelu": Activation(
            _fast_gelu,
            f"""
    x_squared = Mul (x, x)
    x_cubed = Mul (x_squared, x)
    bend = Mul (x_cubed, {{0.044715}})
    bent = Add (x, bend)
    argument = Mul (bent, {{{2 * math.sqrt(2 / math.pi)!r}}})
    gate = Sigmoid (argument)
{_GATED}""",
        ),
        "Swish": Activation(
            _swish,
            f"""
    is_flat = Equal (first, {{0.0}})
    scaled = Mul (x, first)
    argument = Where (is_flat, {{0.0}}, scaled)
    gate = Sigmoid (argument)
{_GATED}""",
            {"alpha": 1.0},
        ),
        "Sigmoid": Activation(_sigmoid, "y = Sigmoid (x)"),
        "Tanh": Activation(np.tanh, "y = Tanh (x)"),
        "Softplus": Activation(
            lambda x: np.logaddexp(x, 0),
            """
    size = Abs (x)
    falling = Neg (size)
    power = Exp (falling)
    sum = Add (power, {1.0})
    bend = Log (sum)
    hinge = Max (x, {0.0})
    y = Add (hinge, bend)
""",
        ),
        "HardSwish": Activation(
            lambda x: _gated(x, np.clip(x + 3, 0, 6) / 6),
            f"""
    shifted = Add (x, {{3.0}})
    raised = Max (shifted, {{0.0}})
    cut = Min (raised, {{6.0}})
    gate = Div (cut, {{6.0}})
{_GATED}""",
        ),
    }
)
