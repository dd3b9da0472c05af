"""``Select``, ``SelectV2``: the values of one tensor or of another.

tf2onnx multiplies both with 0 or 1 and adds them, and a NaN or an infinity that was not chosen
spoils the sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

TF_OPS = ("Select", "SelectV2")


def convert(graph: Any, node: Any, name: str, args: Any) -> None:
    """Select → Where. Its condition of rank 1 is for whole rows; of booleans → Or of two And."""
    from onnx import TensorProto
    from tf2onnx import utils

    condition, chosen, other = node.input
    outputs, shape, dtype = node.output, graph.get_shape(node.output[0]), node.output_dtypes[0]
    rank = graph.get_rank(chosen)
    by_row = node.type == "Select" and graph.get_rank(condition) == 1 and rank not in (None, 1)
    graph.remove_node(node.name)
    if by_row:
        whole_rows = np.array([-1, *[1] * (rank - 1)], np.int64)
        target = graph.make_const(utils.make_name(name), whole_rows).output[0]
        condition = graph.make_node("Reshape", [condition, target]).output[0]
    final = {"outputs": outputs, "name": name, "shapes": [shape], "dtypes": [dtype]}
    if dtype != TensorProto.BOOL:
        graph.make_node("Where", [condition, chosen, other], **final)
        return
    opposite = graph.make_node("Not", [condition]).output[0]
    kept = graph.make_node("And", [condition, chosen]).output[0]
    replaced = graph.make_node("And", [opposite, other]).output[0]
    graph.make_node("Or", [kept, replaced], **final)
