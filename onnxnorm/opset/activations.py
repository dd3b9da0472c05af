"""The activations that a node of the domain can have swallowed: the float64 oracle of each.

The names are those of ONNX operators (FastGelu: of ``com.microsoft``), in the string attribute
``activation`` of a node; the parameters are its attribute ``activation_params``, in the order of
the table. At ±inf each is the limit of its formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
        function: ``function(x, *parameters)`` of a float64 array, element by element.
        parameters: name and default of each parameter; a node holds them all.
    """

    function: Callable[..., Array]
    parameters: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

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


ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        "Relu": Activation(lambda x: np.maximum(x, 0)),
        "Clip": Activation(
            lambda x, low, high: np.minimum(np.maximum(x, low), high),
            {"min": -math.inf, "max": math.inf},
        ),
        "LeakyRelu": Activation(lambda x, alpha: np.where(x < 0, alpha * x, x), {"alpha": 0.01}),
        "Elu": Activation(_elu, {"alpha": 1.0}),
        "Selu": Activation(
            lambda x, alpha, gamma: gamma * _elu(x, alpha),
            {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875},
        ),
        "Gelu": Activation(_gelu),
        "FastGelu": Activation(_fast_gelu),
        "Swish": Activation(_swish, {"alpha": 1.0}),
        "Sigmoid": Activation(_sigmoid),
        "Tanh": Activation(np.tanh),
        "Softplus": Activation(lambda x: np.logaddexp(x, 0)),
        "HardSwish": Activation(lambda x: _gated(x, np.clip(x + 3, 0, 6) / 6)),
    }
)
