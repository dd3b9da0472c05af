"""InstanceNormalization: statistics of each channel of each sample.

Source: Ulyanov et al., "Instance Normalization", 2016; ``tfa.layers.InstanceNormalization``; the
ONNX operator InstanceNormalization-6, with a channel axis of any position.
"""

from __future__ import annotations

from typing import Any

from onnxnorm.opset import group_normalization
from onnxnorm.opset.operator import Array, Attributes, Operator, stash_type
from onnxnorm.spec import NormSpec


def reference(
    x: Array, scale: Array, bias: Array, *, axis: int = 1, epsilon: float = 1e-5, **_: Any
) -> Array:
    """Instance normalization of x in float64; scale and bias of shape (C)."""
    return group_normalization.reference(
        x, scale, bias, num_groups=x.shape[axis], axis=axis, epsilon=epsilon
    )


def _attributes_of(spec: NormSpec) -> Attributes:
    return {
        "axis": spec.axes[0],
        "epsilon": spec.epsilon,
        "stash_type": stash_type(spec),
    }


OPERATOR = Operator(
    name="InstanceNormalization",
    attributes={"axis": 1, "epsilon": 1e-5, "stash_type": 1},
    body=group_normalization.body("groups = Identity (channels)"),
    reference=reference,
    attributes_of=_attributes_of,
    permuted=group_normalization.permuted_axis,
)
