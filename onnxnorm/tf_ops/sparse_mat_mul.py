"""``SparseMatMul``, ``SparseTensorDenseMatMul``: products that LocallyConnected layers may take."""

from __future__ import annotations

from typing import Any

import numpy as np

TF_OPS = ("SparseMatMul", "SparseTensorDenseMatMul")


def convert(graph: Any, node: Any, name: str, args: Any) -> None:
    """→ MatMul of dense matrices; a SparseTensor's one by ScatterND of its values into zeros."""
    from onnx import TensorProto
    from tf2onnx import utils

    *left, right = node.input
    outputs, shape = node.output, graph.get_shape(node.output[0])
    dtype = graph.get_dtype(outputs[0])
    flags = ("transpose_a", "transpose_b") if len(left) == 1 else ("adjoint_a", "adjoint_b")
    transposed = [node.get_attr_value(flag, False) for flag in flags]
    graph.remove_node(node.name)

    def add(op: str, *inputs: str, **attributes: Any) -> str:
        return str(graph.make_node(op, list(inputs), attr=attributes).output[0])

    if len(left) == 3:
        indices, values, sizes = left
        zero = np.zeros((), utils.map_onnx_to_numpy_type(dtype))
        zeros = graph.make_const(utils.make_name(name), zero).output[0]
        dense = add("Expand", zeros, add("Cast", sizes, to=TensorProto.INT64))
        left = [add("ScatterND", dense, add("Cast", indices, to=TensorProto.INT64), values)]
    operands = [
        add("Transpose", operand, perm=[1, 0]) if flag else operand
        for operand, flag in zip((left[0], right), transposed, strict=True)
    ]
    final = {"outputs": outputs, "name": name, "shapes": [shape], "dtypes": [dtype]}
    graph.make_node("MatMul", operands, **final)
