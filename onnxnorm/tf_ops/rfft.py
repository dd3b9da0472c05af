"""``RFFT``: the spectrum of frames, as MelSpectrogram and tf.signal.stft take it.

A complex tensor is its real and its imaginary part along a new first axis, which is also what
tf2onnx's ``ComplexAbs`` takes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxnorm.errors import ConversionError

TF_OPS = ("RFFT",)

_READERS = {"Real", "Imag", "ComplexAbs"}


def convert(graph: Any, node: Any, name: str, args: Any) -> None:
    """RFFT → MatMul with the Fourier matrix' real and imaginary parts.

    Raises:
        ConversionError: the spectrum is used otherwise than by its parts or its absolute value,
            or the length of the frames is not known.
    """
    from tf2onnx import utils
    from tf2onnx.graph_builder import GraphBuilder

    x, length = node.input[0], node.inputs[1]
    size, dtype = graph.get_shape(x)[-1], graph.get_dtype(x)
    other = {reader.type for reader in graph.find_output_consumers(node.output[0])} - _READERS
    if other or size == -1 or not length.is_const():
        found = f"read by {', '.join(sorted(other))}" if other else "of frames of unknown length"
        raise ConversionError(
            f"TensorFlow operator RFFT ({name}) {found}: the real part, the imaginary part and the "
            "absolute value of the spectrum of frames of a known length have an ONNX form"
        )
    shape, outputs = graph.get_shape(node.output[0]), node.output
    graph.remove_node(node.name)
    points = int(np.ravel(length.get_tensor_value(as_list=False))[0])
    # Frames are cut or filled with zeros to the number of points.
    times = np.arange(size)[:, np.newaxis] * np.arange(points // 2 + 1)
    matrix = np.exp(-2j * np.pi * times / points) * (np.arange(size) < points)[:, np.newaxis]
    element = utils.map_onnx_to_numpy_type(dtype)
    parts = []
    for values in (matrix.real, matrix.imag):
        constant = graph.make_const(utils.make_name(name), values.astype(element)).output[0]
        part = graph.make_node("MatMul", [x, constant], shapes=[shape], dtypes=[dtype]).output[0]
        parts.append(GraphBuilder(graph).make_unsqueeze({"data": part, "axes": [0]}))
    final = {"outputs": outputs, "name": name, "shapes": [[2, *shape]], "dtypes": [dtype]}
    graph.make_node("Concat", parts, attr={"axis": 0}, **final)
