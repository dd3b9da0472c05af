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
from onnxnorm.opset.activations import ACTIVATIONS

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
#: With the optional one of the optimized form.
ALL_INPUTS = (*INPUTS, "residual")


def model(
    operator: str,
    shapes: tuple[tuple[Any, ...] | None, ...],
    element: str = "float32",
    **attributes: Any,
) -> onnx.ModelProto:
    """One node named "norm"; bfloat16, which numpy lacks, enters and leaves as float32.

    With four shapes it has a residual.
    """
    cast = element == "bfloat16"
    outside = TensorProto.FLOAT if cast else ELEMENT_TYPES[element]
    names = ALL_INPUTS[: len(shapes)]
    inputs = [
        helper.make_tensor_value_info(name, outside, shape)
        for name, shape in zip(names, shapes, strict=True)
    ]
    nodes = [
        helper.make_node("Cast", [name], [f"{name}_stored"], to=ELEMENT_TYPES[element])
        for name in names
        if cast
    ]
    suffix = "_stored" if cast else ""
    nodes.append(
        helper.make_node(
            operator,
            [name + suffix for name in names],
            ["Y" + suffix],
            name="norm",
            domain=DOMAIN,
            **attributes,
        )
    )
    if cast:
        nodes.append(helper.make_node("Cast", ["Y_stored"], ["Y"], to=TensorProto.FLOAT))
    y_shape = shapes[0] if len(shapes) == len(INPUTS) else None
    outputs = [helper.make_tensor_value_info("Y", outside, y_shape)]
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
    residual: Array | None = None,
    **attributes: Any,
) -> Array:
    """The node's output for inputs of any shape."""
    key = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in attributes.items())
    inputs = {"X": x, "scale": scale, "bias": bias}
    if residual is not None:
        inputs["residual"] = residual
    ranks = tuple(value.ndim for value in inputs.values())
    runner = _session_for(operator, ranks, element, threads, key)
    return runner.run(None, inputs)[0]


def stored(values: Array, element: str) -> Array:
    """The values rounded to an element type, in the type that carries it outside the model."""
    if element != "bfloat16":
        return values.astype(element)
    bits = values.astype(np.float32)[..., None].view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32)[..., 0]


def reference(
    operator: str,
    x: Array,
    scale: Array,
    bias: Array,
    residual: Array | None = None,
    element: str = "float32",
    **attributes: Any,
) -> Array:
    """The float64 oracle, with epsilon as the float attribute holds it.

    ``element`` is what the sum of x and a residual is rounded to that comes first.
    """
    if "epsilon" in OPERATORS[operator].attributes:
        epsilon = attributes.get("epsilon", OPERATORS[operator].attributes["epsilon"])
        attributes["epsilon"] = float(np.float32(epsilon))
    activation = ACTIVATIONS.get(attributes.pop("activation", ""))
    parameters = [float(np.float32(p)) for p in attributes.pop("activation_params", [])]
    stage = attributes.pop("residual_stage", "output")
    with np.errstate(all="ignore"):
        if residual is not None and stage == "input":
            x, residual = stored(x.astype(np.float64) + residual, element), None
        y = OPERATORS[operator].reference(x, scale, bias, **attributes)
        if residual is not None:
            y = y + residual.astype(np.float64)
    return y if activation is None else activation(y, *parameters)


def assert_close(
    operator: str,
    y: Array,
    x: Array,
    scale: Array,
    bias: Array,
    element: str,
    residual: Array | None = None,
    **attributes: Any,
) -> None:
    """The result is within a few roundings of the terms that it is the sum of."""
    assert y.shape == np.broadcast_shapes(x.shape, () if residual is None else residual.shape)
    if y.size == 0:
        return
    expected = reference(operator, x, scale, bias, residual, element, **attributes)
    zeros, ones = np.zeros_like(bias), np.ones_like(scale)
    # The steepest of the activations, which the tests give no steeper parameters, is Selu.
    slope = 1.76 if attributes.pop("activation", None) else 1
    attributes.pop("activation_params", None)
    first = attributes.get("residual_stage") == "input"
    added = residual if first else None
    normalized = np.abs(reference(operator, x, ones, zeros, added, element, **attributes)).max()
    terms = normalized * np.abs(scale).max() + np.abs(bias).max()
    if residual is not None and not first:
        terms += np.abs(residual).max()
    compute = ROUNDING["float64" if element == "float64" else "float32"]
    # Half precision's subnormals have a fixed spacing, a rounding of 2^-25.
    allowed = slope * (16 * compute + 1.01 * ROUNDING[element]) * terms
    allowed += ROUNDING[element] * np.abs(expected).max() + 2.0**-25 * (element == "float16")
    error = np.abs(y.astype(np.float64) - expected).max()
    assert error <= allowed, f"error {error:.3g}, allowed {allowed:.3g}"
