"""TensorFlow Addons layers (0.20 to 0.23)."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxnorm.errors import ConversionError
from onnxnorm.frameworks.formula import Formula, Shape, array, broadcast_shape
from onnxnorm.frameworks.weights import Weight
from onnxnorm.spec import Operator


def group_normalization(layer: Any, input_shape: Shape) -> Formula:
    """``tfa.layers.GroupNormalization``."""
    return _formula(layer, input_shape, "GroupNormalization")


def instance_normalization(layer: Any, input_shape: Shape) -> Formula:
    """``tfa.layers.InstanceNormalization``: group normalization with one group per channel."""
    return _formula(layer, input_shape, "InstanceNormalization")


def filter_response_normalization(layer: Any, input_shape: Shape) -> Formula:
    """``tfa.layers.FilterResponseNormalization``; its scale and bias are (1, 1, 1, C)."""
    epsilon = abs(layer.epsilon)
    if layer.use_eps_learned:
        epsilon += abs(array(layer.eps_learned).item())
    return Formula(
        "FilterResponseNormalization",
        axes=layer.axis,
        epsilon=epsilon,
        scale=layer.gamma,
        bias=layer.beta,
        parameter_shape=layer.gamma.shape[1:],
    )


def weight_normalization(layer: Any) -> Weight:
    """``tfa.layers.WeightNormalization``: a kernel of direction v and length g.

    Raises:
        ConversionError: g waits for the first data.
    """
    v = array(layer.v).astype(np.float64)
    if layer._initialized:
        squared = np.square(v).sum(axis=tuple(layer.kernel_norm_axes), keepdims=True)
        kernel = v / np.sqrt(np.maximum(squared, 1e-12)) * array(layer.g).astype(np.float64)
    elif layer.data_init:
        raise ConversionError(
            f"layer {layer.name!r}: a WeightNormalization that takes its scale from the first data "
            "(data_init=True) and has seen none; call the model on data first"
        )
    else:
        kernel = v
    kernel = kernel.astype(array(layer.g).dtype)
    if layer.is_rnn:
        return Weight(layer.layer.cell, "recurrent_kernel", kernel)
    return Weight(layer.layer, "kernel", kernel)


def _formula(layer: Any, input_shape: Shape, operator: Operator) -> Formula:
    rank = len(input_shape)
    axis = layer.axis % rank
    axes: tuple[int, ...] = (axis,)
    parameter_shape = None
    if layer.groups == input_shape[axis] and layer.axis < -1:
        # With one channel to a group, the layer pops position ``axis - 1`` from the axes
        # 1 .. rank-1 to reduce over. For these axes that spares the axis before the channel
        # axis, while the scale still runs along the channel axis.
        operator = "LayerNormalization"
        axes = tuple(a for a in range(1, rank) if a != axis - 1)
        parameter_shape = broadcast_shape(input_shape, (axis,))
    return Formula(
        operator,
        axes=axes,
        groups=layer.groups,
        epsilon=layer.epsilon,
        scale=layer.gamma,
        bias=layer.beta,
        parameter_shape=parameter_shape,
    )


LAYERS = {
    "FilterResponseNormalization": filter_response_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
}
BATCH_LAYERS: dict[str, Any] = {}
WRAPPERS = {"SpectralNormalization": None, "WeightNormalization": weight_normalization}
