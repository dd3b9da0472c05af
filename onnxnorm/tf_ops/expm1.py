"""``Expm1``: exp(x) - 1 without cancellation near 0. Keras 3 computes celu with it."""

from __future__ import annotations

from typing import Any

import numpy as np

TF_OPS = ("Expm1",)


def convert(graph: Any, node: Any, name: str, args: Any) -> None:
    """Expm1 → Mul (tanh(x / 2), exp(x) + 1), which is exp(x) - 1 and small where x is."""
    from tf2onnx import utils

    (x,), outputs = node.input, node.output
    shape, dtype = graph.get_shape(outputs[0]), graph.get_dtype(outputs[0])
    kind = {"shapes": [shape], "dtypes": [dtype]}
    graph.remove_node(node.name)
    element = utils.map_onnx_to_numpy_type(dtype)
    half, one = (
        graph.make_const(utils.make_name(name), np.array(value, element)).output[0]
        for value in (0.5, 1)
    )
    halved = graph.make_node("Mul", [x, half], **kind).output[0]
    tanh = graph.make_node("Tanh", [halved], **kind).output[0]
    exp = graph.make_node("Exp", [x], **kind).output[0]
    plus_one = graph.make_node("Add", [exp, one], **kind).output[0]
    graph.make_node("Mul", [tanh, plus_one], outputs=outputs, name=name, **kind)
