"""GroupNormalization: statistics over groups of channels.

Source: Wu and He, "Group Normalization", 2018; ``tfa.layers.GroupNormalization``; the ONNX
operator GroupNormalization-21, with a channel axis of any position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from onnxnorm.errors import ConversionError
from onnxnorm.opset import recipes
from onnxnorm.opset.operator import Array, Attributes, Operator, Site, normalized, stash_type
from onnxnorm.spec import NormSpec

# X is viewed as (N, outer, groups, C / groups, inner). Sums are divided by the count rather than
# written as ReduceMean, whose axes moved from attribute to input in opset 18. Summing in two steps
# loses less, and each step is one that runtimes have a fast path for.
_BODY = """
    shape = Shape (X)
    rank = Shape (shape)
    zero = Constant <value_ints: ints = [0]> ()
    one = Constant <value_ints: ints = [1]> ()
    axis_scalar = Constant <value_int: int = @axis> ()
    axis_signed = Reshape (axis_scalar, one)
    axis_shifted = Add (axis_signed, rank)
    axis = Mod (axis_shifted, rank)
    after_axis = Add (axis, one)
    batch = Slice (shape, zero, one)
    outer_dims = Slice (shape, one, axis)
    outer_factors = Concat <axis = 0> (one, outer_dims)
    outer = ReduceProd <keepdims = 1> (outer_factors)
    inner_dims = Slice (shape, after_axis, rank)
    inner_factors = Concat <axis = 0> (one, inner_dims)
    inner = ReduceProd <keepdims = 1> (inner_factors)
    channels = Gather (shape, axis)
    {groups}
    group_channels = Div (channels, groups)
    view = Concat <axis = 0> (batch, outer, groups, group_channels, inner)
    parameter_view = Concat <axis = 0> (groups, group_channels, one)
    X_stash = Cast <to: int = @stash_type> (X)
    X_view = Reshape <allowzero = 1> (X_stash, view)
    group_pixels = Mul (group_channels, inner)
    count_int = Mul (outer, group_pixels)
    count = Cast <to: int = @stash_type> (count_int)
    near = Constant <value_ints: ints = [3, 4]> ()
    far = Constant <value_ints: ints = [1]> ()
    sum_far = ReduceSum (X_view, far)
    sum = ReduceSum (sum_far, near)
    mean = Div (sum, count)
    nearly_centered = Sub (X_view, mean)
    rest_far = ReduceSum (nearly_centered, far)
    rest = ReduceSum (rest_far, near)
    rest_mean = Div (rest, count)
    centered = Sub (nearly_centered, rest_mean)
    squared = Mul (centered, centered)
    squared_far = ReduceSum (squared, far)
    squared_sum = ReduceSum (squared_far, near)
    variance = Div (squared_sum, count)
    epsilon_float = Constant <value_float: float = @epsilon> ()
    epsilon = Cast <to: int = @stash_type> (epsilon_float)
    variance_epsilon = Add (variance, epsilon)
    deviation = Sqrt (variance_epsilon)
    scale_view = Reshape <allowzero = 1> (scale, parameter_view)
    scale_stash = Cast <to: int = @stash_type> (scale_view)
    bias_view = Reshape <allowzero = 1> (bias, parameter_view)
    bias_stash = Cast <to: int = @stash_type> (bias_view)
    factor = Div (scale_stash, deviation)
    scaled = Mul (centered, factor)
    biased = Add (scaled, bias_stash)
    Y_stash = Reshape <allowzero = 1> (biased, shape)
"""


def body(groups: str) -> str:
    """The function body; ``groups`` is the statement that computes the number of groups."""
    return _BODY.format(groups=groups)


def reference(
    x: Array,
    scale: Array,
    bias: Array,
    *,
    num_groups: int,
    axis: int = 1,
    epsilon: float = 1e-5,
    **_: Any,
) -> Array:
    """Group normalization of x in float64; scale and bias of shape (C)."""
    axis %= x.ndim
    channels = x.shape[axis]
    outer, inner = math.prod(x.shape[1:axis]), math.prod(x.shape[axis + 1 :])
    view = x.astype(np.float64).reshape(
        x.shape[0], outer, num_groups, channels // num_groups, inner
    )
    per_channel = [channels if i == axis else 1 for i in range(x.ndim)]
    y = normalized(view, (1, 3, 4), epsilon).reshape(x.shape)
    result: Array = y * scale.astype(np.float64).reshape(per_channel)
    result += bias.astype(np.float64).reshape(per_channel)
    return result


def permuted_axis(attributes: Attributes, perm: Sequence[int]) -> Attributes:
    """The same attributes with the channel axis where Transpose(perm) puts it."""
    axis = attributes["axis"] % len(perm)
    return {**attributes, "axis": list(perm).index(axis)}


def _attributes_of(spec: NormSpec) -> Attributes:
    return {
        "axis": spec.axes[0],
        "num_groups": spec.groups,
        "epsilon": spec.epsilon,
        "stash_type": stash_type(spec),
    }


def lower_groups(site: Site, axis: int, groups: int) -> str:
    """Group normalization in standard operators.

    Channels first: Reshape, InstanceNormalization with a group as its channel, Reshape, scale and
    bias, which is faster in ONNX Runtime than its own GroupNormalization and right for inputs
    with a large mean. Any other place: two passes over (N, outer, groups, C / groups, inner).
    """
    rank = len(site.shape)
    channels = channel_count(site, axis)
    outer, inner = range(1, axis), range(axis + 1, rank)
    if axis == 1 and site.elem_type != TensorProto.DOUBLE:
        view = recipes.view(site, [0, groups, channels // groups, inner], "view_4d")
        core = (
            f"{view}X_view = Reshape <allowzero = {int('Concat' in view)}> (X, view_4d)\n"
            f"groups = {recipes.ints([groups])}\n"
            "ones = ConstantOfShape <value = float[1] {1.0}> (groups)\n"
            "zeros = ConstantOfShape <value = float[1] {0.0}> (groups)\n"
            f"normalized = InstanceNormalization <epsilon = {site.attributes['epsilon']!r}>"
            " (X_view, ones, zeros)\n"
            f"{recipes.parameters((channels, *(1 for _ in inner)))}"
            f"{recipes.back_to_shape(site, 'normalized', 'normalized_X')}"
        )
        core = recipes.scaled(site, core, "normalized_X", "scale_shaped", "bias_shaped")
    else:
        view = recipes.view(site, [0, outer, groups, channels // groups, inner], "view_5d")
        core = (
            f"{view}X_view = Reshape <allowzero = {int('Concat' in view)}> (X, view_5d)\n"
            f"{recipes.parameters((groups, channels // groups, 1))}"
            f"{recipes.normalize(site, 'X_view', [(1,), (3, 4)], 'Y_view')}"
            f"{recipes.back_to_shape(site, 'Y_view', 'Y')}"
        )
    return recipes.in_float(site, core)


def channel_count(site: Site, axis: int) -> int:
    """The size of the channel axis."""
    channels = site.shape[axis]
    if channels is None:
        raise ConversionError(f"axis {axis} of the input {site.shape} has no static size")
    return channels


def _lower(site: Site) -> str:
    axis = site.attributes["axis"] % len(site.shape)
    return lower_groups(site, axis, site.attributes["num_groups"])


OPERATOR = Operator(
    name="GroupNormalization",
    doc=(
        "Statistics over each group of channels of each sample:\n"
        "Y = (X - mean) / sqrt(variance + epsilon) * scale + bias, scale and bias of shape (C)."
    ),
    attributes={"axis": 1, "num_groups": None, "epsilon": 1e-5, "stash_type": 1},
    body=body(
        "groups_scalar = Constant <value_int: int = @num_groups> ()\n"
        "    groups = Reshape (groups_scalar, one)"
    ),
    reference=reference,
    attributes_of=_attributes_of,
    permuted=permuted_axis,
    lower=_lower,
)
