"""What operators share whose statistics run over a set of axes; their parameters broadcast."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnxnorm.opset import recipes
from onnxnorm.opset.operator import Attributes, Site, stash_type
from onnxnorm.spec import NormSpec

# Sums are divided by the count rather than written as ReduceMean, whose axes moved from attribute
# to input in opset 18.
COUNT = """
    shape = Shape (X)
    reduced_dims = Gather (shape, axes)
    count_int = ReduceProd <keepdims = 1> (reduced_dims)
    count = Cast <to: int = @stash_type> (count_int)
"""

_BODY = """
    axes = Constant <value_ints: ints = @axes> ()
    epsilon_float = Constant <value_float: float = @epsilon> ()
    epsilon = Cast <to: int = @stash_type> (epsilon_float)
    X_stash = Cast <to: int = @stash_type> (X)
{statistics}
    deviation = Sqrt (square)
    scale_stash = Cast <to: int = @stash_type> (scale)
    bias_stash = Cast <to: int = @stash_type> (bias)
    factor = Div (scale_stash, deviation)
    scaled = Mul ({numerator}, factor)
    Y_stash = Add (scaled, bias_stash)
"""


def body(statistics: str, numerator: str = "X_stash") -> str:
    """The function body of numerator / sqrt(square) · scale + bias.

    Args:
        statistics: statements from ``X_stash``, ``axes`` and ``epsilon`` to ``square``.
        numerator: what is divided.
    """
    return _BODY.format(statistics=statistics.strip("\n"), numerator=numerator)


def attributes_of(spec: NormSpec) -> Attributes:
    """The attributes that all of these operators have."""
    return {"axes": list(spec.axes), "epsilon": spec.epsilon, "stash_type": stash_type(spec)}


def permuted(attributes: Attributes, perm: Sequence[int]) -> Attributes:
    """The same attributes with the axes where Transpose(perm) puts them."""
    axes = sorted(list(perm).index(a % len(perm)) for a in attributes["axes"])
    return {**attributes, "axes": axes}


def axes_of(site: Site) -> list[int]:
    """The axes of the statistics, non-negative and in ascending order."""
    return sorted(a % len(site.shape) for a in site.attributes["axes"])


def in_own_operator(site: Site, operator: str) -> str | None:
    """Y by the standard operator of the name, None where it does not serve.

    It takes trailing axes, and ONNX Runtime 1.21 to 1.23 refuses rows of one element. Runtimes want
    its parameters in the full shape of the axes.
    """
    rank, axes = len(site.shape), axes_of(site)
    sizes = [size for size in site.shape[axes[0] :] if size is not None]
    if axes != list(range(rank - len(axes), rank)) or len(sizes) < len(axes):
        return None
    if math.prod(sizes) == 1:
        return None
    takes_bias = operator == "LayerNormalization" and site.has_bias
    names = ("scale", "bias") if takes_bias else ("scale",)
    arguments = f"axis = {axes[0]}, epsilon = {site.attributes['epsilon']!r}"
    statement = f"Y = {operator} <{arguments}> (X, {', '.join(names)})\n"
    if all(shape == tuple(sizes) for shape in site.parameter_shapes[: len(names)]):
        return statement
    expanded = "".join(f"{name}_full = Expand ({name}, full)\n" for name in names)
    renamed = recipes.rename(statement, {name: f"{name}_full" for name in names})
    return f"full = {recipes.ints(sizes)}\n{expanded}{renamed}"
