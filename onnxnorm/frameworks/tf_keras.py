"""Keras 2 layers, as in ``tf.keras`` of TensorFlow 2.12 to 2.15."""

from __future__ import annotations

from typing import Any

from onnxnorm.errors import ConversionError
from onnxnorm.frameworks.formula import Formula, Shape, broadcast_shape


def group_normalization(layer: Any, input_shape: Shape) -> Formula:
    """``keras.layers.GroupNormalization``."""
    groups = input_shape[layer.axis] if layer.groups == -1 else layer.groups
    return Formula(
        "GroupNormalization",
        axes=[layer.axis],
        groups=groups,
        epsilon=layer.epsilon,
        scale=layer.gamma,
        bias=layer.beta,
    )


def layer_normalization(layer: Any, input_shape: Shape) -> Formula:
    """``keras.layers.LayerNormalization``."""
    return Formula(
        "LayerNormalization",
        axes=layer.axis,
        epsilon=layer.epsilon,
        scale=layer.gamma,
        bias=layer.beta,
    )


def unit_normalization(layer: Any, input_shape: Shape) -> Formula:
    """``keras.layers.UnitNormalization``."""
    return Formula("UnitNormalization", axes=axes_of(layer), epsilon=1e-12)


def batch_normalization(layer: Any, input_shape: Shape) -> Formula:
    """``keras.layers.BatchNormalization`` called with ``training=True``.

    Raises:
        ConversionError: the batch's statistics are not all that it computes with.
    """
    for option in ("renorm", "virtual_batch_size", "adjustment"):
        if getattr(layer, option, None):
            raise ConversionError(
                f"layer {layer.name!r}: a BatchNormalization with {option} called with "
                "training=True has no ONNX form; call it without"
            )
    channels = [axis % len(input_shape) for axis in axes_of(layer)]
    return Formula(
        "LayerNormalization",
        axes=[axis for axis in range(len(input_shape)) if axis not in channels],
        epsilon=layer.epsilon,
        # Absent where Keras 3 before 3.5 has none.
        scale=getattr(layer, "gamma", None),
        bias=getattr(layer, "beta", None),
        parameter_shape=broadcast_shape(input_shape, channels),
    )


def axes_of(layer: Any) -> list[int]:
    """The layer's axis or axes, which Keras keeps as it was given them until it builds."""
    return [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)


LAYERS = {
    "GroupNormalization": group_normalization,
    "LayerNormalization": layer_normalization,
    "UnitNormalization": unit_normalization,
}
BATCH_LAYERS = {
    "BatchNormalization": batch_normalization,
    "SyncBatchNormalization": batch_normalization,
}
WRAPPERS = {"SpectralNormalization": None}
