"""Keras 2 layers, as in ``tf.keras`` of TensorFlow 2.12 to 2.15."""

from __future__ import annotations

from typing import Any

from onnxnorm.frameworks.formula import (
    Formula,
    Shape,
    broadcast_shape,
    class_path,
    static_dimension,
)
from onnxnorm.spec import NormSpec


def group_normalization(layer: Any, input_shape: Shape) -> Formula:
    """``keras.layers.GroupNormalization``."""
    axis = layer.axis % len(input_shape)
    channels = static_dimension(layer, input_shape, axis)
    spec = NormSpec(
        operator="GroupNormalization",
        axes=(axis,),
        groups=channels if layer.groups == -1 else layer.groups,
        epsilon=float(layer.epsilon),
        has_scale=layer.scale,
        has_bias=layer.center,
        compute_dtype=layer.compute_dtype,
        layer_name=layer.name,
        layer_class=class_path(layer),
    )
    gamma = layer.gamma if layer.scale else None
    beta = layer.beta if layer.center else None
    return Formula(spec, gamma, beta, (channels,))


def layer_normalization(layer: Any, input_shape: Shape) -> Formula:
    """``keras.layers.LayerNormalization``."""
    axes = tuple(sorted(a % len(input_shape) for a in layer.axis))
    spec = NormSpec(
        operator="LayerNormalization",
        axes=axes,
        epsilon=float(layer.epsilon),
        has_scale=layer.gamma is not None,
        has_bias=layer.beta is not None,
        compute_dtype=layer.compute_dtype,
        layer_name=layer.name,
        layer_class=class_path(layer),
    )
    return Formula(spec, layer.gamma, layer.beta, broadcast_shape(input_shape, axes))


LAYERS = {
    "GroupNormalization": group_normalization,
    "LayerNormalization": layer_normalization,
}
