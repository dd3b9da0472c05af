"""Layers of classes that nobody made known: a node where their results are those of a formula."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from tests.conversion.keras_cases import KERAS_2, functional, randomized  # noqa: E402

L = tf.keras.layers
CHANNELS = 8
IMAGE, SEQUENCE = (None, None, CHANNELS), (None, CHANNELS)


def layer(call: Callable[..., Any], **weights: tuple[int, ...]) -> Any:
    """A layer of a class of its own, with this call and weights of these shapes."""

    def build(self: Any, input_shape: Any) -> None:
        for name, shape in weights.items():
            setattr(self, name, self.add_weight(name=name, shape=shape, initializer="ones"))
        self.built = True

    return type("Own", (L.Layer,), {"build": build, "call": call})()


def mean(x: Any, axes: Any = -1) -> Any:
    return tf.reduce_mean(x, axes, keepdims=True)


def variance(x: Any, axes: Any = -1) -> Any:
    return mean(tf.square(x - mean(x, axes)), axes)


def standard(x: Any, axes: Any = -1, epsilon: float = 1e-5) -> Any:
    return (x - mean(x, axes)) / tf.sqrt(variance(x, axes) + epsilon)


def rms(x: Any, axes: Any = -1, epsilon: float = 1e-6) -> Any:
    return x * tf.math.rsqrt(mean(x * x, axes) + epsilon)


def grouped(self: Any, x: Any) -> Any:
    shape = tf.shape(x)
    view = tf.reshape(x, [shape[0], shape[1], shape[2], 4, CHANNELS // 4])
    return tf.reshape(standard(view, [1, 2, 4], 1e-3), shape) * self.g + self.b


def in_training(self: Any, x: Any, training: Any = None) -> Any:
    return rms(x + tf.random.normal(tf.shape(x)) if training else x)


VECTORS = {"g": (CHANNELS,), "b": (CHANNELS,)}
FIRST = {"g": (CHANNELS, 1, 1), "b": (1, CHANNELS, 1, 1)}

ARE_FORMULAS: dict[str, tuple[Callable[[], Any], tuple[int | None, ...], str]] = {
    "layer": (
        lambda: layer(lambda self, x: standard(x) * self.g + self.b, **VECTORS),
        SEQUENCE,
        "LayerNormalization",
    ),
    "layer, of vectors": (
        lambda: layer(lambda self, x: standard(x) * self.g + self.b, **VECTORS),
        (CHANNELS,),
        "LayerNormalization",
    ),
    "layer, over a list of axes": (
        lambda: layer(lambda self, x: standard(x, [1, 2, 3]) * self.g + self.b, **VECTORS),
        (5, 6, CHANNELS),
        "LayerNormalization",
    ),
    "layer, for large images of one size": (
        lambda: layer(lambda self, x: standard(x) * self.g + self.b, **VECTORS),
        (56, 56, CHANNELS),
        "LayerNormalization",
    ),
    "layer, without weights": (
        lambda: layer(lambda self, x: standard(x)),
        SEQUENCE,
        "LayerNormalization",
    ),
    "layer, the mean kept": (
        lambda: layer(lambda self, x: x / tf.sqrt(variance(x) + 1e-5)),
        SEQUENCE,
        "LayerNormalization",
    ),
    "layer, gradients stopped": (
        lambda: layer(
            lambda self, x: (
                (x - tf.stop_gradient(mean(x))) / tf.stop_gradient(tf.sqrt(variance(x) + 1e-5))
            )
        ),
        SEQUENCE,
        "LayerNormalization",
    ),
    "layer, by n - 1": (
        lambda: layer(
            lambda self, x: (x - mean(x)) / tf.sqrt(variance(x) * CHANNELS / (CHANNELS - 1) + 1e-5)
        ),
        SEQUENCE,
        "LayerNormalization",
    ),
    "instance": (
        lambda: layer(lambda self, x: standard(x, [1, 2]) * self.g + self.b, **VECTORS),
        IMAGE,
        "InstanceNormalization",
    ),
    "instance, channels first": (
        lambda: layer(lambda self, x: standard(x, [2, 3]) * self.g + self.b, **FIRST),
        (CHANNELS, None, None),
        "InstanceNormalization",
    ),
    "group": (lambda: layer(grouped, **VECTORS), IMAGE, "GroupNormalization"),
    "root mean square": (
        lambda: layer(lambda self, x: self.g * rms(x), g=(CHANNELS,)),
        SEQUENCE,
        "RMSNormalization",
    ),
    "root mean square, 1 + scale": (
        lambda: layer(lambda self, x: (1 + self.g) * rms(x), g=(CHANNELS,)),
        SEQUENCE,
        "RMSNormalization",
    ),
    "root mean square, exponential scale": (
        lambda: layer(lambda self, x: tf.exp(self.g) * rms(x), g=(CHANNELS,)),
        SEQUENCE,
        "RMSNormalization",
    ),
    "root mean square, one scale": (
        lambda: layer(lambda self, x: self.g * rms(x), g=()),
        SEQUENCE,
        "RMSNormalization",
    ),
    "root mean square, noise in training": (
        lambda: layer(in_training),
        SEQUENCE,
        "RMSNormalization",
    ),
    "root mean square, any arguments": (
        lambda: layer(lambda self, x, **others: rms(x)),
        SEQUENCE,
        "RMSNormalization",
    ),
    "filter response": (
        lambda: layer(lambda self, x: rms(x, [1, 2]) * self.g + self.b, **VECTORS),
        IMAGE,
        "FilterResponseNormalization",
    ),
    "unit length": (
        lambda: layer(lambda self, x: tf.math.l2_normalize(x, -1) * self.g, g=()),
        SEQUENCE,
        "UnitNormalization",
    ),
}

ARE_NOT: dict[str, tuple[Callable[[], Any], tuple[int | None, ...], str]] = {
    "epsilon outside of the root": (
        lambda: layer(lambda self, x: (x - mean(x)) / (tf.sqrt(variance(x)) + 1e-3)),
        SEQUENCE,
        "no formula agrees",
    ),
    "no epsilon": (
        lambda: layer(lambda self, x: (x - mean(x)) / tf.sqrt(variance(x))),
        SEQUENCE,
        "without an epsilon",
    ),
    "by n - 1, n unknown": (
        lambda: layer(
            lambda self, x: (
                (x - mean(x, 1))
                / tf.sqrt(
                    tf.reduce_sum(tf.square(x - mean(x, 1)), 1, keepdims=True)
                    / tf.cast(tf.shape(x)[1] - 1, x.dtype)
                    + 1e-3
                )
            )
        ),
        SEQUENCE,
        "no formula agrees",
    ),
    "scaled before the mean is subtracted": (
        lambda: layer(lambda self, x: standard(x * self.g), g=(CHANNELS,)),
        SEQUENCE,
        "no formula agrees",
    ),
    "clipped": (
        lambda: layer(lambda self, x: tf.minimum(standard(x), 2.0)),
        SEQUENCE,
        "runs the operation Minimum",
    ),
    "added to its input": (
        lambda: layer(lambda self, x: x + standard(x)),
        SEQUENCE,
        "no formula agrees",
    ),
    "over the batch": (
        lambda: layer(lambda self, x: standard(x, 0)),
        SEQUENCE,
        "depends on the other samples",
    ),
    "undefined values replaced": (
        lambda: layer(lambda self, x: rms(tf.where(tf.math.is_nan(x), tf.zeros_like(x), x))),
        SEQUENCE,
        "runs the operation IsNan",
    ),
}


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("name", ARE_FORMULAS)
def test_formula_becomes_a_node(name: str, policy: str) -> None:
    make, shape, operator = ARE_FORMULAS[name]
    if operator == "UnitNormalization" and policy == "mixed_float16":
        pytest.skip("its epsilon is 0 in float16")
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        model = randomized(functional(shape, make()))
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    before = [np.array(value) for value in model.get_weights()]
    result = onnxnorm.convert(model)
    (record,) = result.layers
    assert (record.lowering, record.spec and record.spec.operator) == ("custom", operator)
    assert onnxnorm.verify(model, result.model).passed
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("name", ARE_NOT)
def test_near_miss_stays_as_it_is(name: str) -> None:
    make, shape, reason = ARE_NOT[name]
    model = randomized(functional(shape, make()))
    result = onnxnorm.convert(model)
    (record,) = result.layers
    assert record.lowering == "decomposed"
    assert reason in record.reason
    assert onnxnorm.verify(model, result.model).passed


def test_call_with_more_than_the_input_stays_as_it_is() -> None:
    norm = layer(lambda self, x, factor: standard(x) * factor)
    x = tf.keras.Input(SEQUENCE)
    model = tf.keras.Model(x, norm(x, factor=x))
    result = onnxnorm.convert(model)
    (record,) = result.layers
    assert record.lowering == "decomposed"
    assert "called with more than its input" in record.reason
    assert onnxnorm.verify(model, result.model).passed


def test_call_that_decides_by_its_input_converts_as_before() -> None:
    def call(self: Any, x: Any) -> Any:
        if tf.reduce_sum(x) > 1e9:
            x = x * 2.0
        return rms(x)

    if not KERAS_2:
        pytest.skip("Keras 3 does not convert such a call")
    model = functional((CHANNELS,), layer(call))
    result = onnxnorm.convert(model)
    assert [record.lowering for record in result.layers] == ["decomposed"]
    assert onnxnorm.verify(model, result.model).passed


PACKAGES: dict[str, tuple[str, str, tuple[Any, ...], dict[str, Any], tuple[int | None, ...]]] = {
    "keras-layer-normalization": (
        "keras_layer_normalization",
        "LayerNormalization",
        (),
        {},
        SEQUENCE,
    ),
    "keras_cv_attention_models, Llama": (
        "keras_cv_attention_models.llama2.llama2",
        "RMSNorm",
        (),
        {},
        SEQUENCE,
    ),
    "KerasHub, Gemma 3n": (
        "keras_hub.src.models.gemma3n.rms_normalization",
        "Gemma3nRMSNorm",
        (CHANNELS,),
        {},
        SEQUENCE,
    ),
    "KerasHub, Gemma 4": (
        "keras_hub.src.models.gemma4.gemma4_layers",
        "Gemma4VNorm",
        (),
        {},
        SEQUENCE,
    ),
    "KerasHub, Flux": (
        "keras_hub.src.layers.modeling.rms_normalization",
        "RMSNormalization",
        (CHANNELS,),
        {},
        SEQUENCE,
    ),
    "KerasHub, MobileNetV5": (
        "keras_hub.src.models.mobilenetv5.mobilenetv5_layers",
        "RmsNorm2d",
        (CHANNELS,),
        {"data_format": "channels_first"},
        (CHANNELS, 6, 6),
    ),
}


@pytest.mark.parametrize("name", PACKAGES)
def test_layer_of_a_package(name: str) -> None:
    module, layer_class, args, kwargs, shape = PACKAGES[name]
    pytest.importorskip(module.partition(".")[0])
    try:
        found = getattr(import_module(module), layer_class)
    except (ImportError, AttributeError):
        pytest.skip(f"this version has no {module}.{layer_class}")
    model = randomized(functional(shape, found(*args, **kwargs)))
    result = onnxnorm.convert(model)
    assert [record.lowering for record in result.layers] == ["custom"]
    assert onnxnorm.verify(model, result.model).passed
