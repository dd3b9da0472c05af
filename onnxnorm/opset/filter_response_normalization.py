"""FilterResponseNormalization: RMS normalization over the image, with a name of its own.

The name is for a viewer to show the layer that the user wrote.

Source: Singh and Krishnan, "Filter Response Normalization Layer", 2019;
``tfa.layers.FilterResponseNormalization``, whose learned epsilon is part of ``epsilon`` here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnxnorm.opset import over_axes, rms_normalization
from onnxnorm.opset.operator import Array, Operator


def reference(
    x: Array,
    scale: Array,
    bias: Array,
    *,
    axes: Sequence[int] = (1, 2),
    epsilon: float = 1e-6,
    **_: Any,
) -> Array:
    """Filter response normalization of x in float64; scale and bias broadcastable to x."""
    return rms_normalization.reference(x, scale, bias, axes=axes, epsilon=epsilon)


OPERATOR = Operator(
    name="FilterResponseNormalization",
    doc=("Statistics over axes, the image:\nY = X / sqrt(mean(X^2) + epsilon) * scale + bias."),
    attributes={"axes": [1, 2], "epsilon": 1e-6, "stash_type": 1},
    body=rms_normalization.BODY,
    reference=reference,
    attributes_of=over_axes.attributes_of,
    permuted=over_axes.permuted,
    lower=rms_normalization.lower,
    broadcasts_parameters=True,
)
