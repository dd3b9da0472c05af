"""Small Keras models with weights from a seed, and faults to plant into what they convert to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from onnx import numpy_helper

try:
    import tensorflow_addons as tfa
except ImportError:
    tfa = None

L = tf.keras.layers
NORMS: dict[str, Callable[[], Any]] = {"layer": lambda: L.LayerNormalization(axis=-1)}
if tfa is not None:
    NORMS["group"] = lambda: tfa.layers.GroupNormalization(groups=4)
    NORMS["instance"] = lambda: tfa.layers.InstanceNormalization()
else:
    NORMS["group"] = lambda: L.GroupNormalization(groups=4)


def randomized(model: Any, seed: int = 0) -> Any:
    """The model with every weight drawn; scales stay positive, as trained ones mostly are."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if any(name in weight.name for name in ("gamma", "variance")):
            weight.assign(generator.uniform(0.5, 1.5, weight.shape))
        else:
            fan_in = int(np.prod(weight.shape[:-1])) or 1
            weight.assign(generator.normal(0, fan_in**-0.5, weight.shape))
    return model


def classifier(norm: str) -> Any:
    """Convolution, normalization, dense, softmax."""
    x = image = tf.keras.Input((10, 10, 3), name="image")
    x = L.ReLU()(NORMS[norm]()(L.Conv2D(8, 3)(x)))
    x = L.Flatten()(x)
    return randomized(tf.keras.Model(image, L.Dense(5, activation="softmax", name="label")(x)))


def deep(norm: str, depth: int) -> Any:
    """A residual network with as many normalization layers as ``depth`` says."""
    x = image = tf.keras.Input((6, 6, 8), name="image")
    for _ in range(depth):
        x = L.Add()([x, L.ReLU()(NORMS[norm]()(L.Conv2D(8, 3, padding="same")(x)))])
    return randomized(tf.keras.Model(image, L.Dense(4)(L.GlobalAveragePooling2D()(x))))


def faults(model: onnx.ModelProto) -> Mapping[str, onnx.ModelProto]:
    """Copies of a converted model, each with one thing wrong."""
    planted = {
        "epsilon": _changed(model, _small_epsilon),
        "scale": _changed(model, _reversed_scale),
        "bias": _changed(model, _no_bias),
        "variance": _changed(model, _unbiased_variance),
    }
    if any(node.op_type == "GroupNormalization" for node in model.graph.node):
        planted["groups"] = _changed(model, _other_groups)
    return planted


def _changed(model: onnx.ModelProto, fault: Callable[[onnx.ModelProto], None]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    fault(copy)
    return copy


def _nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.domain == "onnxnorm"]


def _attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(attribute for attribute in node.attribute if attribute.name == name)


def _small_epsilon(model: onnx.ModelProto) -> None:
    for node in _nodes(model):
        _attribute(node, "epsilon").f = 1e-5


def _other_groups(model: onnx.ModelProto) -> None:
    for node in _nodes(model):
        _attribute(node, "num_groups").i = 2


def _parameter(model: onnx.ModelProto, position: int) -> onnx.TensorProto:
    name = _nodes(model)[0].input[position]
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def _reversed_scale(model: onnx.ModelProto) -> None:
    scale = _parameter(model, 1)
    values = numpy_helper.to_array(scale)
    backwards = values.ravel()[::-1].reshape(values.shape)
    scale.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(backwards), scale.name))


def _no_bias(model: onnx.ModelProto) -> None:
    bias = _parameter(model, 2)
    values = np.zeros_like(numpy_helper.to_array(bias))
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))


def _unbiased_variance(model: onnx.ModelProto) -> None:
    """Divides by n - 1, in the function bodies."""
    for function in model.functions:
        position, variance = next(
            (i, node) for i, node in enumerate(function.node) if "variance" in node.output
        )
        count = variance.input[1]
        variance.input[1] = "count_less_one"
        one = numpy_helper.from_array(np.float32(1))
        for node in (
            onnx.helper.make_node("Sub", [count, "one_like"], ["count_less_one"]),
            onnx.helper.make_node("CastLike", ["one_float", count], ["one_like"]),
            onnx.helper.make_node("Constant", [], ["one_float"], value=one),
        ):
            function.node.insert(position, node)
