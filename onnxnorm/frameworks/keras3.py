"""Keras 3 layers, on the TensorFlow backend."""

from __future__ import annotations

from typing import Any

from onnxnorm.errors import ConversionError
from onnxnorm.frameworks import tf_keras
from onnxnorm.frameworks.formula import Formula, Shape, class_path, static_dimension
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
    return Formula(
        spec,
        layer.gamma if layer.scale else None,
        layer.beta if layer.center else None,
        (channels,),
    )


def layer_normalization(layer: Any, input_shape: Shape) -> Formula:
    """``keras.layers.LayerNormalization``."""
    if getattr(layer, "rms_scaling", False):
        raise ConversionError(
            f"layer {layer.name!r}: LayerNormalization with rms_scaling is not supported"
        )
    return tf_keras.layer_normalization(layer, input_shape)


LAYERS = {
    "GroupNormalization": group_normalization,
    "LayerNormalization": layer_normalization,
}
