"""Keras 3 layers, on the TensorFlow backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from onnxnorm.frameworks import tf_keras
from onnxnorm.frameworks.formula import Formula, Shape


def layer_normalization(layer: Any, input_shape: Shape) -> Formula:
    """``keras.layers.LayerNormalization``; with ``rms_scaling`` the mean stays in the input."""
    formula = tf_keras.layer_normalization(layer, input_shape)
    return replace(formula, subtract_mean=not getattr(layer, "rms_scaling", False))


def rms_normalization(layer: Any, input_shape: Shape) -> Formula:
    """``keras.layers.RMSNormalization``, whose scale broadcasts from the last axis backwards."""
    return Formula(
        "RMSNormalization",
        axes=layer.axis,
        epsilon=layer.epsilon,
        scale=layer.scale,
        parameter_shape=tuple(layer.scale.shape),
    )


def unit_normalization(layer: Any, input_shape: Shape) -> Formula:
    """``keras.layers.UnitNormalization``."""
    # The least square of the length was 1e-12; with `ops.normalize` it is the least length.
    bounds_length = "normalize" in _keras_class(layer).call.__code__.co_names
    return Formula(
        "UnitNormalization",
        axes=tf_keras.axes_of(layer),
        epsilon=1e-24 if bounds_length else 1e-12,
    )


def _keras_class(layer: Any) -> Any:
    return next(base for base in type(layer).__mro__ if base.__module__.startswith("keras."))


LAYERS = {
    "GroupNormalization": tf_keras.group_normalization,
    "LayerNormalization": layer_normalization,
    "RMSNormalization": rms_normalization,
    "UnitNormalization": unit_normalization,
}
BATCH_LAYERS = {"BatchNormalization": tf_keras.batch_normalization}
WRAPPERS = {"SpectralNormalization": None}
