"""``Real``, ``Imag``: the parts of a spectrum that ``RFFT`` has left along a first axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxnorm.errors import ConversionError

TF_OPS = ("Real", "Imag")


def convert(graph: Any, node: Any, name: str, args: Any) -> None:
    """Real, Imag → Gather on the first axis.

    Raises:
        ConversionError: of another complex tensor.
    """
    from onnx import TensorProto
    from tf2onnx import utils

    (x,), outputs = node.input, node.output
    shape, dtype = graph.get_shape(outputs[0]), graph.get_dtype(x)
    if dtype in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        raise ConversionError(
            f"TensorFlow operator {node.type} ({name}) of complex numbers that are not a spectrum "
            "of real ones (RFFT), which alone has an ONNX form"
        )
    index = np.array(node.type == "Imag", np.int64)
    graph.remove_node(node.name)
    part = graph.make_const(utils.make_name(name), index).output[0]
    final = {"outputs": outputs, "name": name, "shapes": [shape], "dtypes": [dtype]}
    graph.make_node("Gather", [x, part], attr={"axis": 0}, **final)
