"""InstanceNormalization: statistics of each channel of each sample.

Source: Ulyanov et al., "Instance Normalization", 2016; ``tfa.layers.InstanceNormalization``; the
ONNX operator InstanceNormalization-6, with a channel axis of any position.
"""

from __future__ import annotations

from typing import Any

from onnx import TensorProto

from onnxnorm.opset import group_normalization, recipes
from onnxnorm.opset.operator import Array, Attributes, Operator, Site, stash_type
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


def _lower(site: Site) -> str:
    rank = len(site.shape)
    axis = site.attributes["axis"] % rank
    channels = group_normalization.channel_count(site, axis)
    if rank == 2:
        return group_normalization.lower_groups(site, axis, channels)
    if axis == 1 and site.elem_type != TensorProto.DOUBLE:
        epsilon = repr(site.attributes["epsilon"])
        return recipes.in_float(
            site, f"Y = InstanceNormalization <epsilon = {epsilon}> (X, scale, bias)\n"
        )
    spatial = [a for a in range(1, rank) if a != axis]
    return recipes.in_float(
        site,
        recipes.parameters((channels, *(1 for _ in range(axis + 1, rank))))
        + recipes.normalize(site, "X", [spatial], "Y"),
    )


OPERATOR = Operator(
    name="InstanceNormalization",
    doc=(
        "Statistics over each channel of each sample:\n"
        "Y = (X - mean) / sqrt(variance + epsilon) * scale + bias, scale and bias of shape (C)."
    ),
    attributes={"axis": 1, "epsilon": 1e-5, "stash_type": 1},
    body=group_normalization.body("groups = Identity (channels)"),
    reference=reference,
    attributes_of=_attributes_of,
    permuted=group_normalization.permuted_axis,
    lower=_lower,
)
