"""RMSNormalization: division by the root of the mean square over any set of axes.

Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019;
``keras.layers.RMSNormalization``; the ONNX operator RMSNormalization-23, with any set of axes in
place of trailing ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from onnxnorm.opset import over_axes, recipes
from onnxnorm.opset.operator import Array, Operator, Site

BODY = over_axes.body(
    f"""{over_axes.COUNT}
    squared = Mul (X_stash, X_stash)
    squared_sum = ReduceSum (squared, axes)
    mean_square = Div (squared_sum, count)
    square = Add (mean_square, epsilon)
"""
)


def reference(
    x: Array,
    scale: Array,
    bias: Array,
    *,
    axes: Sequence[int] = (-1,),
    epsilon: float = 1e-6,
    **_: Any,
) -> Array:
    """RMS normalization of x in float64; scale and bias broadcastable to x."""
    x, scale, bias = (value.astype(np.float64) for value in (x, scale, bias))
    mean_square = np.square(x).mean(axis=tuple(axes), keepdims=True)
    result: Array = x / np.sqrt(mean_square + epsilon) * scale + bias
    return result


def lower(site: Site) -> str:
    """ONNX' own operator where it is there and serves, else basic operators.

    These stand in the order that ONNX Runtime joins to one kernel, where that is right: up to 1.23
    it loses epsilon in double precision, and refuses groups of one element.
    """
    own = over_axes.in_own_operator(site, "RMSNormalization") if site.opset >= 23 else None
    if own is not None:
        core = recipes.rename(own, {"Y": "scaled"})
    else:
        sizes = [site.shape[axis] for axis in over_axes.axes_of(site)]
        several = None not in sizes and math.prod(size for size in sizes if size) > 1
        joined = several and site.elem_type != TensorProto.DOUBLE
        squared = "two = Constant <value = float {2.0}> ()\nsquared = Pow (X, two)\n"
        core = (
            f"{squared if joined else 'squared = Mul (X, X)'}\n"
            f"{recipes.reduce_mean(site, 'squared', over_axes.axes_of(site), 'mean_square')}"
            f"{recipes.epsilon(site)}"
            "square = Add (mean_square, epsilon)\n"
            "deviation = Sqrt (square)\n"
            "normalized = Div (X, deviation)\n"
            "scaled = Mul (normalized, scale)\n"
        )
    return recipes.in_float(site, recipes.shifted(site, core, "Y", "bias"))


OPERATOR = Operator(
    name="RMSNormalization",
    doc=("Statistics over axes:\nY = X / sqrt(mean(X^2) + epsilon) * scale + bias."),
    attributes={"axes": [-1], "epsilon": 1e-6, "stash_type": 1},
    body=BODY,
    reference=reference,
    attributes_of=over_axes.attributes_of,
    permuted=over_axes.permuted,
    lower=lower,
    broadcasts_parameters=True,
)
