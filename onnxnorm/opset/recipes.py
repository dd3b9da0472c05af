"""Statements in standard operators that several lowerings are made of."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from onnx import TensorProto

from onnxnorm.opset.operator import Site

_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def in_float(site: Site, statements: str) -> str:
    """Statements on X and Y, computed in float32 for half precision input.

    Few standard operators have half precision kernels on the CPU, and none sums in float32.
    """
    if site.elem_type not in _HALVES:
        return statements
    inner = {"X": "X_float", "scale": "scale_float", "bias": "bias_float", "Y": "Y_float"}
    casts = "".join(
        f"{inner[name]} = Cast <to: int = {TensorProto.FLOAT}> ({name})\n"
        for name in ("X", "scale", "bias")
    )
    return f"{casts}{rename(statements, inner)}Y = Cast <to: int = {site.elem_type}> (Y_float)\n"


def parameters(shape: Sequence[int]) -> str:
    """scale_shaped and bias_shaped: the parameters in a shape that broadcasts to what they meet."""
    return (
        f"parameter_shape = {ints(shape)}\n"
        "scale_shaped = Reshape (scale, parameter_shape)\n"
        "bias_shaped = Reshape (bias, parameter_shape)\n"
    )


def normalize(
    site: Site,
    x: str,
    steps: Sequence[Sequence[int]],
    y: str,
    scale: str = "scale_shaped",
    bias: str = "bias_shaped",
    subtract_mean: bool = True,
) -> str:
    """y = (x - mean) · (scale / deviation) + bias.

    Args:
        site: where the statements stand.
        x: the input.
        steps: axes of the statistics, reduced one set after the other: each set a fast path.
        y: the output.
        scale: broadcasts to x.
        bias: broadcasts to x.
        subtract_mean: without it, y = x · (scale / deviation) + bias.
    """
    return (
        f"{_mean(site, x, steps, 'mean')}"
        f"centered = Sub ({x}, mean)\n"
        "squared = Mul (centered, centered)\n"
        f"{_mean(site, 'squared', steps, 'variance')}"
        f"{epsilon(site)}"
        "variance_epsilon = Add (variance, epsilon)\n"
        "deviation = Sqrt (variance_epsilon)\n"
        f"{divided(site, 'centered' if subtract_mean else x, y, scale, bias)}"
    )


def epsilon(site: Site) -> str:
    """epsilon: the attribute as a scalar of the type that is computed in."""
    element = "double" if site.elem_type == TensorProto.DOUBLE else "float"
    return f"epsilon = Constant <value = {element} {{{site.attributes['epsilon']!r}}}> ()\n"


def divided(site: Site, x: str, y: str, scale: str, bias: str) -> str:
    """y = x · (scale / deviation) + bias."""
    if site.has_scale:
        core = f"factor = Div ({scale}, deviation)\nscaled = Mul ({x}, factor)\n"
    else:
        core = f"scaled = Div ({x}, deviation)\n"
    return shifted(site, core, y, bias)


def scaled(site: Site, core: str, x: str, scale: str, bias: str) -> str:
    """Y = x · scale + bias, after the statements that end with x."""
    if not site.has_scale:
        return shifted(site, rename(core, {x: "scaled"}), "Y", bias)
    return shifted(site, f"{core}scaled = Mul ({x}, {scale})\n", "Y", bias)


def shifted(site: Site, core: str, y: str, bias: str) -> str:
    """y = scaled + bias, after the statements that end with scaled."""
    return f"{core}{y} = Add (scaled, {bias})\n" if site.has_bias else rename(core, {"scaled": y})


def _mean(site: Site, x: str, steps: Sequence[Sequence[int]], y: str) -> str:
    """y = the mean of x; the mean of means over sets of equal size."""
    names = [x, *(f"{y}_{number}" for number in range(1, len(steps))), y]
    return "".join(
        reduce_mean(site, before, axes, after)
        for before, axes, after in zip(names, steps, names[1:], strict=False)
    )


def view(site: Site, parts: Sequence[int | range], name: str) -> str:
    """``{name}``: a shape for X whose parts are fixed sizes or products over ranges of axes.

    The first part is the batch and stays as it is. With sizes known it is a constant, else it is
    computed from X.
    """
    sizes = [part if isinstance(part, int) else _product(site, part) for part in parts[1:]]
    if None not in sizes:
        return f"{name} = {ints([0, *(size for size in sizes if size is not None)])}\n"
    lines = ["one = " + ints([1]), f"{name}_0 = Shape <start = 0, end = 1> (X)"]
    for index, (part, size) in enumerate(zip(parts[1:], sizes, strict=True), start=1):
        if isinstance(part, int) or size is not None:
            lines.append(f"{name}_{index} = {ints([size or 0])}")
        else:
            lines += [
                f"{name}_dims_{index} = Shape <start = {part.start}, end = {part.stop}> (X)",
                f"{name}_factors_{index} = Concat <axis = 0> (one, {name}_dims_{index})",
                f"{name}_{index} = ReduceProd <keepdims = 1> ({name}_factors_{index})",
            ]
    listed = ", ".join(f"{name}_{index}" for index in range(len(parts)))
    lines.append(f"{name} = Concat <axis = 0> ({listed})")
    return "\n".join(lines) + "\n"


def back_to_shape(site: Site, x: str, y: str) -> str:
    """y = x in the shape of X."""
    if None not in site.shape[1:]:
        sizes = ints([0, *(size for size in site.shape[1:] if size is not None)])
        return f"x_shape = {sizes}\n{y} = Reshape ({x}, x_shape)\n"
    return f"x_shape = Shape (X)\n{y} = Reshape <allowzero = 1> ({x}, x_shape)\n"


def _product(site: Site, axes: range) -> int | None:
    sizes = [site.shape[axis] for axis in axes]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def ints(values: Sequence[int]) -> str:
    """A constant vector of int64."""
    return f"Constant <value_ints: ints = [{', '.join(map(str, values))}]> ()"


def rename(statements: str, names: dict[str, str]) -> str:
    """The statements with whole-word names replaced."""
    pattern = re.compile(r"\b(" + "|".join(names) + r")\b")
    return pattern.sub(lambda match: names[match.group()], statements)


def reduce_mean(site: Site, x: str, axes: Sequence[int], y: str) -> str:
    """y = the mean of x over axes, which it keeps with size 1."""
    if site.opset < 18:
        listed = ", ".join(map(str, axes))
        return f"{y} = ReduceMean <axes: ints = [{listed}], keepdims = 1> ({x})\n"
    return f"{y}_axes = {ints(axes)}\n{y} = ReduceMean <keepdims = 1> ({x}, {y}_axes)\n"
