"""A model without its weights, for what needs only their types and shapes."""

from __future__ import annotations

import math

import onnx
from onnx import helper

from onnxnorm.graph.nodes import all_graphs, copy_fields, keep_only

_MOST_ELEMENTS = 256


def skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large and its external tensors as inputs of their type and shape.

    Made without copying them. Small ones stay, as shapes may depend on them.
    """
    result = onnx.ModelProto()
    copy_fields(model, result, leave="graph")
    copy_fields(model.graph, result.graph, leave="initializer")
    result.graph.initializer.extend(t for t in model.graph.initializer if _stays(t))
    moved = [t for t in model.graph.initializer if not _stays(t)]
    for graph in all_graphs(result.graph):
        moved += [t for t in graph.initializer if not _stays(t)]
        keep_only(graph.initializer, _stays)
    inputs = {value.name for value in result.graph.input}
    result.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in moved
        if tensor.name not in inputs
    )
    return result


def _stays(tensor: onnx.TensorProto) -> bool:
    is_external = tensor.data_location == onnx.TensorProto.EXTERNAL
    # The size in bytes, or the data itself, would be had by copying it.
    return not is_external and math.prod(tensor.dims) <= _MOST_ELEMENTS
