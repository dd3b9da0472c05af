"""Small graphs in ONNX' text form, with one normalization node called ``norm``."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser

from onnxnorm.graph.fusion import NodeFusion, fuse
from onnxnorm.opset import OPERATORS, function
from tests.graph.fusion.evaluation import evaluate

TYPES = {"float": np.float32, "float16": np.float16, "double": np.float64}


def parsed(
    statements: str,
    *,
    constants: str = "",
    inputs: str = "float[N,6,8] x",
    outputs: str = "float[N,6,8] y",
    opset: int = 18,
) -> onnx.ModelProto:
    """A graph in which ``NORM`` stands for the operator and attributes of a layer norm."""
    weights = [f"float[8] {name} = {{{_values(seed)}}}" for seed, name in enumerate(("s", "b"))]
    initializers = ", ".join(filter(None, [*weights, constants]))
    text = (
        f'<ir_version: 9, opset_import: ["" : {opset}, "onnxnorm" : 1]> '
        f"graph ({inputs}) => ({outputs}) <{initializers}> {{\n{statements}\n}}"
    ).replace("NORM", "onnxnorm.LayerNormalization <axes = [-1], epsilon = 0.001>")
    model = onnx.parser.parse_model(text)
    model.functions.append(function(OPERATORS["LayerNormalization"], opset))
    for tensor in model.graph.initializer:  # as converters write them
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


def as_type(model: onnx.ModelProto, element: str) -> onnx.ModelProto:
    """The model with every float32 in it another type."""
    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    kind = onnx.TensorProto.DataType.Value(element.upper())
    for value in (*converted.graph.input, *converted.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = kind
    for tensor in converted.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            name = tensor.name
            tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(TYPES[element]), name))
    return converted


def fused(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, NodeFusion]]:
    """The optimized model, checked to be valid, and what became of each node."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    fusions = {fusion.node: fusion for fusion in fuse(result)}
    onnx.checker.check_model(result)
    again = onnx.ModelProto()
    again.CopyFrom(result)
    assert not any(fusion.fused for fusion in fuse(again))
    assert again == result
    return result, fusions


def feeds(model: onnx.ModelProto, unknown: int = 2) -> dict[str, Any]:
    """Values for the inputs of a model."""
    rng = np.random.default_rng(5)
    result: dict[str, Any] = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [d.dim_value or unknown for d in kind.shape.dim]
        element = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        result[value.name] = np.asarray(rng.normal(scale=2, size=shape)).astype(element)
    return result


def assert_same(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Both compute the same, and have the same inputs and outputs."""
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    given = feeds(before)
    results = evaluate(after, given)
    for name, wanted in evaluate(before, given).items():
        tolerance = 6e-3 if wanted.dtype == np.float16 else 2e-6
        np.testing.assert_allclose(results[name], wanted, rtol=tolerance, atol=tolerance)


def operators(model: onnx.ModelProto) -> str:
    return " ".join(node.op_type for node in model.graph.node)


def _values(seed: int) -> str:
    return ", ".join(f"{v:.3f}" for v in np.random.default_rng(seed).normal(size=8) + 0.5)
