"""LayerNormalization: statistics over any set of axes.

Source: Ba et al., "Layer Normalization", 2016; ``tf.keras.layers.LayerNormalization``; the ONNX
operator LayerNormalization-17, with any set of axes in place of trailing ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from onnxnorm.opset import over_axes, recipes
from onnxnorm.opset.operator import Array, Attributes, Operator, Site, normalized
from onnxnorm.spec import NormSpec

# ONNX Runtime resolves the branch when it loads the node: the condition is an attribute.
_BODY = over_axes.body(
    f"""{over_axes.COUNT}
    sum = ReduceSum (X_stash, axes)
    mean = Div (sum, count)
    nearly_centered = Sub (X_stash, mean)
    residual_sum = ReduceSum (nearly_centered, axes)
    residual_mean = Div (residual_sum, count)
    centered = Sub (nearly_centered, residual_mean)
    squared = Mul (centered, centered)
    squared_sum = ReduceSum (squared, axes)
    variance = Div (squared_sum, count)
    square = Add (variance, epsilon)
    subtract_mean_int = Constant <value_int: int = @subtract_mean> ()
    subtract_mean = Cast <to = {TensorProto.BOOL}> (subtract_mean_int)
    numerator = If (subtract_mean) <
        then_branch = with_mean_off () => (without) {{ without = Identity (centered) }},
        else_branch = as_it_is () => (same) {{ same = Identity (X_stash) }}
    >
""",
    numerator="numerator",
)


def reference(
    x: Array,
    scale: Array,
    bias: Array,
    *,
    axes: Sequence[int] = (-1,),
    epsilon: float = 1e-5,
    subtract_mean: int = 1,
    **_: Any,
) -> Array:
    """Layer normalization of x in float64; scale and bias broadcastable to x."""
    x = x.astype(np.float64)
    result: Array = normalized(x, tuple(axes), epsilon, bool(subtract_mean))
    result *= scale.astype(np.float64)
    result += bias.astype(np.float64)
    return result


def _attributes_of(spec: NormSpec) -> Attributes:
    return {**over_axes.attributes_of(spec), "subtract_mean": int(spec.subtract_mean)}


def _lower(site: Site) -> str:
    subtract_mean = bool(site.attributes["subtract_mean"])
    if subtract_mean and site.opset >= 17:
        own = over_axes.in_own_operator(site, "LayerNormalization")
        if own is not None:
            # The one standard operator here that has a half precision kernel of its own.
            return own if site.elem_type == TensorProto.FLOAT16 else recipes.in_float(site, own)
    axes = over_axes.axes_of(site)
    return recipes.in_float(
        site, recipes.normalize(site, "X", [axes], "Y", "scale", "bias", subtract_mean)
    )


OPERATOR = Operator(
    name="LayerNormalization",
    doc=(
        "Statistics over axes:\n"
        "Y = (X - mean) / sqrt(variance + epsilon) * scale + bias, "
        "X in place of X - mean where subtract_mean is 0."
    ),
    attributes={"axes": [-1], "epsilon": 1e-5, "subtract_mean": 1, "stash_type": 1},
    body=_BODY,
    reference=reference,
    attributes_of=_attributes_of,
    permuted=over_axes.permuted,
    lower=_lower,
    broadcasts_parameters=True,
)
