"""Keras 2 layers, as in ``tf.keras`` of TensorFlow 2.12 to 2.15."""

from __future__ import annotations

from typing import Any

from onnxnorm.frameworks.formula import Formula, Shape, broadcast_shape, class_path
from onnxnorm.spec import NormSpec


def layer_normalization(layer: Any, input_shape: Shape) -> Formula:
    """``tf.keras.layers.LayerNormalization``."""
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


LAYERS = {"LayerNormalization": layer_normalization}
