"""TensorFlow Addons layers (0.20 to 0.23)."""

from __future__ import annotations

from typing import Any

from onnxnorm.frameworks.formula import (
    Formula,
    Shape,
    broadcast_shape,
    class_path,
    static_dimension,
)
from onnxnorm.spec import NormSpec, Operator


def group_normalization(layer: Any, input_shape: Shape) -> Formula:
    """``tfa.layers.GroupNormalization``."""
    return _formula(layer, input_shape, "GroupNormalization")


def instance_normalization(layer: Any, input_shape: Shape) -> Formula:
    """``tfa.layers.InstanceNormalization``: group normalization with one group per channel."""
    return _formula(layer, input_shape, "InstanceNormalization")


def _formula(layer: Any, input_shape: Shape, operator: Operator) -> Formula:
    rank = len(input_shape)
    axis = layer.axis % rank
    channels = static_dimension(layer, input_shape, axis)
    axes: tuple[int, ...] = (axis,)
    parameter_shape: tuple[int, ...] = (channels,)
    if layer.groups == channels and layer.axis < -1:
        # With one channel to a group, the layer pops position ``axis - 1`` from the axes
        # 1 .. rank-1 to reduce over. For these axes that spares the axis before the channel
        # axis, while the scale still runs along the channel axis.
        operator = "LayerNormalization"
        axes = tuple(a for a in range(1, rank) if a != axis - 1)
        parameter_shape = broadcast_shape(input_shape, (axis,))
    spec = NormSpec(
        operator=operator,
        axes=axes,
        groups=layer.groups if operator == "GroupNormalization" else None,
        epsilon=float(layer.epsilon),
        has_scale=layer.gamma is not None,
        has_bias=layer.beta is not None,
        compute_dtype=layer.compute_dtype,
        layer_name=layer.name,
        layer_class=class_path(layer),
    )
    return Formula(spec, layer.gamma, layer.beta, parameter_shape)


LAYERS = {
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
}
