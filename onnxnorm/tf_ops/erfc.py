"""``Erfc``: 1 - erf(x). Keras 3 computes gelu with it."""

from __future__ import annotations

from typing import Any

import numpy as np

TF_OPS = ("Erfc",)


def convert(graph: Any, node: Any, name: str, args: Any) -> None:
    """Erfc → Sub (1, Erf)."""
    from tf2onnx import utils

    (x,), outputs = node.input, node.output
    shape, dtype = graph.get_shape(outputs[0]), graph.get_dtype(outputs[0])
    graph.remove_node(node.name)
    element = utils.map_onnx_to_numpy_type(dtype)
    one = graph.make_const(utils.make_name(name), np.array(1, element)).output[0]
    erf = graph.make_node("Erf", [x], shapes=[shape], dtypes=[dtype]).output[0]
    graph.make_node("Sub", [one, erf], outputs=outputs, name=name, shapes=[shape], dtypes=[dtype])
