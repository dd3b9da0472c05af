"""Keras 3 layers, on the TensorFlow backend."""

from __future__ import annotations

from typing import Any

from onnxnorm.errors import ConversionError
from onnxnorm.frameworks import tf_keras
from onnxnorm.frameworks.formula import Formula, Shape


def layer_normalization(layer: Any, input_shape: Shape) -> Formula:
    """``keras.layers.LayerNormalization``."""
    if getattr(layer, "rms_scaling", False):
        raise ConversionError(
            f"layer {layer.name!r}: LayerNormalization with rms_scaling is not supported"
        )
    return tf_keras.layer_normalization(layer, input_shape)


LAYERS = {
    "GroupNormalization": tf_keras.group_normalization,
    "LayerNormalization": layer_normalization,
}
