"""Models of one node, run with the native library, and how far results may be from the oracle."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

import onnxnorm
from onnxnorm.opset import DOMAIN, OPERATORS, VERSION

Array = npt.NDArray[Any]

ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float64": TensorProto.DOUBLE,
}
#: Half the distance from 1 to the next number: what rounding alone costs.
ROUNDING = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8, "float64": 2.0**-53}
INPUTS = ("X", "scale", "bias")


def model(
    operator: str,
    shapes: tuple[tuple[Any, ...] | None, ...],
    element: str = "float32",
    **attributes: Any,
) -> onnx.ModelProto:
    """One node named "norm"; bfloat16, which numpy lacks, enters and leaves as float32."""
    cast = element == "bfloat16"
    outside = TensorProto.FLOAT if cast else ELEMENT_TYPES[element]
    inputs = [
        helper.make_tensor_value_info(name, outside, shape)
        for name, shape in zip(INPUTS, shapes, strict=True)
    ]
    nodes = [
        helper.make_node("Cast", [name], [f"{name}_stored"], to=ELEMENT_TYPES[element])
        for name in INPUTS
        if cast
    ]
    suffix = "_stored" if cast else ""
    nodes.append(
        helper.make_node(
            operator,
            [name + suffix for name in INPUTS],
            ["Y" + suffix],
            name="norm",
            domain=DOMAIN,
            **attributes,
        )
    )
    if cast:
        nodes.append(helper.make_node("Cast", ["Y_stored"], ["Y"], to=TensorProto.FLOAT))
    outputs = [helper.make_tensor_value_info("Y", outside, shapes[0])]
    return wrap(helper.make_graph(nodes, "one_norm", inputs, outputs))


def wrap(graph: onnx.GraphProto) -> onnx.ModelProto:
    """A model that ONNX Runtime 1.18 reads as well."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, VERSION)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def session(proto: onnx.ModelProto, threads: int = 2) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    onnxnorm.register(options)
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@functools.lru_cache(maxsize=256)
def _session_for(
    operator: str, ranks: tuple[int, ...], element: str, threads: int, attributes: tuple[Any, ...]
) -> onnxruntime.InferenceSession:
    shapes = tuple((None,) * rank for rank in ranks)
    return session(model(operator, shapes, element, **dict(attributes)), threads)


def run(
    operator: str,
    x: Array,
    scale: Array,
    bias: Array,
    element: str = "float32",
    threads: int = 2,
    **attributes: Any,
) -> Array:
    """The node's output for inputs of any shape."""
    key = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in attributes.items())
    ranks = (x.ndim, scale.ndim, bias.ndim)
    runner = _session_for(operator, ranks, element, threads, key)
    return runner.run(None, {"X": x, "scale": scale, "bias": bias})[0]


def stored(values: Array, element: str) -> Array:
    """The values rounded to an element type, in the type that carries it outside the model."""
    if element != "bfloat16":
        return values.astype(element)
    bits = values.astype(np.float32)[..., None].view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32)[..., 0]


def reference(operator: str, x: Array, scale: Array, bias: Array, **attributes: Any) -> Array:
    """The float64 oracle, with epsilon as the float attribute holds it."""
    if "epsilon" in OPERATORS[operator].attributes:
        epsilon = attributes.get("epsilon", OPERATORS[operator].attributes["epsilon"])
        attributes["epsilon"] = float(np.float32(epsilon))
    with np.errstate(all="ignore"):
        return OPERATORS[operator].reference(x, scale, bias, **attributes)


def assert_close(
    operator: str, y: Array, x: Array, scale: Array, bias: Array, element: str, **attributes: Any
) -> None:
    """The result is within a few roundings of the terms that it is the sum of."""
    assert y.shape == x.shape
    if y.size == 0:
        return
    expected = reference(operator, x, scale, bias, **attributes)
    zeros, ones = np.zeros_like(bias), np.ones_like(scale)
    normalized = np.abs(reference(operator, x, ones, zeros, **attributes)).max()
    terms = normalized * np.abs(scale).max() + np.abs(bias).max()
    compute = ROUNDING["float64" if element == "float64" else "float32"]
    # Half precision's subnormals have a fixed spacing, a rounding of 2^-25.
    allowed = (16 * compute + 1.01 * ROUNDING[element]) * terms + 2.0**-25 * (element == "float16")
    error = np.abs(y.astype(np.float64) - expected).max()
    assert error <= allowed, f"error {error:.3g}, allowed {allowed:.3g}"
