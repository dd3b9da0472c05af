"""``Einsum`` with an ellipsis or with capital letters, which tf2onnx takes for small ones."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

TF_OPS = ("Einsum",)


def convert(graph: Any, node: Any, name: str, args: Any) -> None:
    """As tf2onnx converts it, with one small letter for each axis in the equation."""
    from tf2onnx.onnx_opset.math import Einsum

    equation = node.get_attr_value("equation").decode()
    node.set_attr("equation", spelled_out(equation, [graph.get_rank(x) for x in node.input]))
    Einsum.version_12(graph, node)


def spelled_out(equation: str, ranks: Sequence[int]) -> str:
    """The equation without ellipses and capitals; ``ranks``: those of the operands."""
    given, arrow, result = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    hidden = [
        rank - len(term.replace("...", "")) if "..." in term else 0
        for term, rank in zip(terms, ranks, strict=True)
    ]
    most = max(hidden)
    # Axes behind an ellipsis are counted from its end, as in broadcasting.
    full = [_with_digits(term, n) for term, n in zip(terms, hidden, strict=True)]
    full.append(_with_digits(result, most))
    axes = dict.fromkeys("".join(full))
    letters = dict(zip(axes, string.ascii_lowercase, strict=False))
    *operands, output = ("".join(letters[axis] for axis in term) for term in full)
    return ",".join(operands) + arrow + output


def _with_digits(term: str, hidden: int) -> str:
    """The term with digits for the axes that its ellipsis hides, the last one 0."""
    return term.replace("...", "".join(str(n) for n in reversed(range(hidden))))
