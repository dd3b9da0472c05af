"""Every way in which Keras spells an activation, behind a layer normalization each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

L = tf.keras.layers
A = tf.keras.activations
KERAS_3 = hasattr(A, "leaky_relu")

Parameters = tuple[float, ...]
SELU = (1.6732632, 1.0507010)


class Apply(L.Layer):
    """Any TensorFlow function as a layer."""

    def __init__(self, function: Callable[[Any], Any], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.function = function

    def call(self, x: Any) -> Any:
        return self.function(x)


def _applied(function: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda **arguments: Apply(function, **arguments)


def _layer(layer: type, *given: Any, **named: Any) -> Callable[..., Any]:
    return lambda **arguments: layer(*given, **named, **arguments)


def _named(name: str) -> Callable[..., Any]:
    return lambda **arguments: L.Activation(name, **arguments)


def _cube(x: Any) -> Any:
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)


# Makers of layers, and the activation that the node must have taken in; "" for none.
CASES: dict[str, tuple[Callable[..., Any], str, Parameters]] = {
    "relu": (_named("relu"), "Relu", ()),
    "layer ReLU": (_layer(L.ReLU), "Relu", ()),
    "tf.nn.relu": (_applied(tf.nn.relu), "Relu", ()),
    "layer ReLU up to 6": (_layer(L.ReLU, 6.0), "Clip", (0, 6)),
    "layer ReLU up to 1": (_layer(L.ReLU, 1.0), "Clip", (0, 1)),
    "tf.nn.relu6": (_applied(tf.nn.relu6), "Clip", (0, 6)),
    "minimum of relu": (_applied(lambda x: tf.minimum(tf.nn.relu(x), 6)), "Clip", (0, 6)),
    "minimum of maximum": (_applied(lambda x: tf.minimum(tf.maximum(x, 0), 6)), "Clip", (0, 6)),
    "clip by value": (_applied(lambda x: tf.clip_by_value(x, -1, 6)), "Clip", (-1, 6)),
    "maximum": (_applied(lambda x: tf.maximum(x, 0.5)), "Clip", (0.5, math.inf)),
    "layer ReLU with a slope": (_layer(L.ReLU, negative_slope=0.1), "LeakyRelu", (0.1,)),
    "layer LeakyReLU": (_layer(L.LeakyReLU), "LeakyRelu", (0.3,)),
    "tf.nn.leaky_relu": (_applied(tf.nn.leaky_relu), "LeakyRelu", (0.2,)),
    "maximum with a part of itself": (
        _applied(lambda x: tf.maximum(x, 0.2 * x)),
        "LeakyRelu",
        (0.2,),
    ),
    "elu": (_named("elu"), "Elu", (1,)),
    "layer ELU": (_layer(L.ELU, 0.75), "Elu", (0.75,)),
    "selu": (_named("selu"), "Selu", SELU),
    "tf.nn.selu": (_applied(tf.nn.selu), "Selu", SELU),
    "gelu": (_named("gelu"), "Gelu", ()),
    "activations.gelu": (_applied(A.gelu), "Gelu", ()),
    "tf.nn.gelu": (_applied(tf.nn.gelu), "Gelu", ()),
    "gelu by hand": (
        _applied(lambda x: 0.5 * x * (1 + tf.math.erf(x / math.sqrt(2)))),
        "Gelu",
        (),
    ),
    "gelu of BERT": (
        _applied(lambda x: x * (0.5 * (1 + tf.math.erf(x / math.sqrt(2.0))))),
        "Gelu",
        (),
    ),
    "gelu by erfc": (
        _applied(lambda x: 0.5 * x * tf.math.erfc(-x * math.sqrt(0.5))),
        "Gelu",
        (),
    ),
    "activations.gelu, approximate": (
        _applied(lambda x: A.gelu(x, approximate=True)),
        "FastGelu",
        (),
    ),
    "tf.nn.gelu, approximate": (
        _applied(lambda x: tf.nn.gelu(x, approximate=True)),
        "FastGelu",
        (),
    ),
    "approximate gelu of BERT": (
        _applied(
            lambda x: (
                x * (0.5 * (1 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * tf.pow(x, 3)))))
            )
        ),
        "FastGelu",
        (),
    ),
    "approximate gelu without power": (
        _applied(lambda x: x * 0.5 * (tf.tanh(_cube(x)) + 1)),
        "FastGelu",
        (),
    ),
    "swish": (_named("swish"), "Swish", (1,)),
    "tf.nn.silu": (_applied(tf.nn.silu), "Swish", (1,)),
    "tf.nn.silu with beta": (_applied(lambda x: tf.nn.silu(x, 1.5)), "Swish", (1.5,)),
    "product with sigmoid": (_applied(lambda x: tf.sigmoid(x) * x), "Swish", (1,)),
    "quick gelu": (_applied(lambda x: x * tf.sigmoid(1.702 * x)), "Swish", (1.702,)),
    "sigmoid": (_named("sigmoid"), "Sigmoid", ()),
    "tanh": (_named("tanh"), "Tanh", ()),
    "softplus": (_named("softplus"), "Softplus", ()),
    "hard swish of MobileNetV3": (
        _applied(lambda x: x * (tf.nn.relu6(x + 3) * (1 / 6))),
        "HardSwish",
        (),
    ),
    "hard swish, divided last": (
        _applied(lambda x: x * tf.nn.relu6(x + 3) / 6),
        "HardSwish",
        (),
    ),
    "product with hard sigmoid": (
        _applied(lambda x: x * A.hard_sigmoid(x)),
        *(("HardSwish", ()) if KERAS_3 else ("", ())),
    ),
    "hard sigmoid": (_named("hard_sigmoid"), "", ()),
    "softsign": (_named("softsign"), "", ()),
    "mish": (_applied(lambda x: x * tf.tanh(tf.nn.softplus(x))), "", ()),
    "thresholded": (_layer(L.ReLU, threshold=0.5), "", ()),
    "twice the relu": (_applied(lambda x: tf.nn.relu(x) * 2), "Relu", ()),
    "linear": (_applied(lambda x: x * 2 + 1), "", ()),
}
if KERAS_3:
    CASES |= {
        "relu6": (_named("relu6"), "Clip", (0, 6)),
        "leaky_relu": (_named("leaky_relu"), "LeakyRelu", (0.2,)),
        "silu": (_named("silu"), "Swish", (1,)),
        "hard_swish": (_named("hard_swish"), "HardSwish", ()),
        "hard_silu": (_named("hard_silu"), "HardSwish", ()),
    }


# Keras rounds the constants of gelu to float32 in a float64 model too, so it is not gelu to that
# precision; of quick gelu, the node's attribute would round the parameter.
NOT_IN_FLOAT64 = frozenset(
    {"activations.gelu, approximate", "tf.nn.gelu, approximate", "quick gelu"}
)
# ONNX Runtime has no Erf of float64: such a model is refused.
_BY_ERF = frozenset(
    {"gelu", "activations.gelu", "tf.nn.gelu", "gelu by hand", "gelu of BERT", "gelu by erfc"}
)


def cases(dtype: str) -> dict[str, Any]:
    """Those that convert in a model of this dtype."""
    left_out = _BY_ERF if dtype == "float64" else ()
    return {name: case for name, case in CASES.items() if name not in left_out}


def model(dtype: str) -> Any:
    """One input, one output for each case."""
    x = tf.keras.Input((4, 8), dtype=dtype, name="x")
    outputs = []
    for place, (make, *_) in enumerate(cases(dtype).values()):
        norm = L.LayerNormalization(dtype=dtype, name=f"norm_{place}")
        outputs.append(make(dtype=dtype, name=f"case_{place}")(norm(x)))
    return tf.keras.Model(x, outputs)
