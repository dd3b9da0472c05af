"""LayerNormalization: statistics over any set of axes.

Source: Ba et al., "Layer Normalization", 2016; ``tf.keras.layers.LayerNormalization``; the ONNX
operator LayerNormalization-17, with any set of axes in place of trailing ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from onnxnorm.opset import recipes
from onnxnorm.opset.operator import Array, Attributes, Operator, Site, normalized, stash_type
from onnxnorm.spec import NormSpec

_BODY = """
    shape = Shape (X)
    axes = Constant <value_ints: ints = @axes> ()
    reduced_dims = Gather (shape, axes)
    count_int = ReduceProd <keepdims = 1> (reduced_dims)
    count = Cast <to: int = @stash_type> (count_int)
    X_stash = Cast <to: int = @stash_type> (X)
    sum = ReduceSum (X_stash, axes)
    mean = Div (sum, count)
    nearly_centered = Sub (X_stash, mean)
    residual_sum = ReduceSum (nearly_centered, axes)
    residual_mean = Div (residual_sum, count)
    centered = Sub (nearly_centered, residual_mean)
    squared = Mul (centered, centered)
    squared_sum = ReduceSum (squared, axes)
    variance = Div (squared_sum, count)
    epsilon_float = Constant <value_float: float = @epsilon> ()
    epsilon = Cast <to: int = @stash_type> (epsilon_float)
    variance_epsilon = Add (variance, epsilon)
    deviation = Sqrt (variance_epsilon)
    scale_stash = Cast <to: int = @stash_type> (scale)
    bias_stash = Cast <to: int = @stash_type> (bias)
    factor = Div (scale_stash, deviation)
    scaled = Mul (centered, factor)
    biased = Add (scaled, bias_stash)
    Y = CastLike (biased, X)
"""


def reference(
    x: Array,
    scale: Array,
    bias: Array,
    *,
    axes: Sequence[int] = (-1,),
    epsilon: float = 1e-5,
    **_: Any,
) -> Array:
    """Layer normalization of x in float64; scale and bias broadcastable to x."""
    positive = tuple(a % x.ndim for a in axes)
    result: Array = normalized(x.astype(np.float64), positive, epsilon) * scale.astype(np.float64)
    result += bias.astype(np.float64)
    return result


def _attributes_of(spec: NormSpec) -> Attributes:
    return {"axes": list(spec.axes), "epsilon": spec.epsilon, "stash_type": stash_type(spec)}


def _permuted(attributes: Attributes, perm: Sequence[int]) -> Attributes:
    axes = sorted(list(perm).index(a % len(perm)) for a in attributes["axes"])
    return {**attributes, "axes": axes}


def _lower(site: Site) -> str:
    rank = len(site.shape)
    axes = sorted(a % rank for a in site.attributes["axes"])
    sizes = [site.shape[a] for a in axes]
    trailing = axes == list(range(rank - len(axes), rank))
    if trailing and None not in sizes and site.opset >= 17:
        arguments = f"axis = {axes[0]}, epsilon = {site.attributes['epsilon']!r}"
        normalization = f"Y = LayerNormalization <{arguments}> (X, scale, bias)\n"
        if any(shape != tuple(sizes) for shape in site.parameter_shapes):
            full = {"scale": "scale_full", "bias": "bias_full"}
            normalization = (
                f"full = {recipes.ints([size for size in sizes if size is not None])}\n"
                "scale_full = Expand (scale, full)\n"
                "bias_full = Expand (bias, full)\n"
                f"{recipes.rename(normalization, full)}"
            )
        # The one standard operator here that has a half precision kernel of its own.
        is_half = site.elem_type == TensorProto.FLOAT16
        return normalization if is_half else recipes.in_float(site, normalization)
    return recipes.in_float(site, recipes.normalize(site, "X", [axes], "Y", "scale", "bias"))


OPERATOR = Operator(
    name="LayerNormalization",
    attributes={"axes": [-1], "epsilon": 1e-5, "stash_type": 1},
    body=_BODY,
    reference=reference,
    attributes_of=_attributes_of,
    permuted=_permuted,
    lower=_lower,
    broadcasts_parameters=True,
)
