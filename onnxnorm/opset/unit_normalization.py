"""UnitNormalization: division by the Euclidean length over any set of axes.

Source: ``keras.layers.UnitNormalization``; ``tf.math.l2_normalize``. The ONNX operator
LpNormalization-22 knows no epsilon and one axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxnorm.opset import over_axes, recipes
from onnxnorm.opset.operator import Array, Operator, Site

_BODY = over_axes.body(
    """
    squared = Mul (X_stash, X_stash)
    squared_sum = ReduceSum (squared, axes)
    square = Max (squared_sum, epsilon)
"""
)


def reference(
    x: Array,
    scale: Array,
    bias: Array,
    *,
    axes: Sequence[int] = (-1,),
    epsilon: float = 1e-12,
    **_: Any,
) -> Array:
    """Unit normalization of x in float64; scale and bias broadcastable to x."""
    x, scale, bias = (value.astype(np.float64) for value in (x, scale, bias))
    squared_sum = np.square(x).sum(axis=tuple(axes), keepdims=True)
    result: Array = x / np.sqrt(np.maximum(squared_sum, epsilon)) * scale + bias
    return result


def _lower(site: Site) -> str:
    return recipes.in_float(
        site,
        f"axes = {recipes.ints(over_axes.axes_of(site))}\n"
        "squared = Mul (X, X)\n"
        "squared_sum = ReduceSum (squared, axes)\n"
        f"{recipes.epsilon(site)}"
        "square = Max (squared_sum, epsilon)\n"
        "deviation = Sqrt (square)\n"
        f"{recipes.divided(site, 'X', 'Y', 'scale', 'bias')}",
    )


OPERATOR = Operator(
    name="UnitNormalization",
    doc=("Statistics over axes:\nY = X / sqrt(max(sum(X^2), epsilon)) * scale + bias."),
    attributes={"axes": [-1], "epsilon": 1e-12, "stash_type": 1},
    body=_BODY,
    reference=reference,
    attributes_of=over_axes.attributes_of,
    permuted=over_axes.permuted,
    lower=_lower,
    broadcasts_parameters=True,
)
