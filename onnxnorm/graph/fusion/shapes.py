"""The types and static shapes of a model's values."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property

import onnx
import onnx.shape_inference
from onnx import helper

from onnxnorm.graph.nodes import all_graphs
from onnxnorm.graph.skeleton import skeleton
from onnxnorm.opset import DOMAIN

Dimension = int | str | None
Shape = tuple[Dimension, ...]


class Shapes:
    """Inferred when the first one is asked for.

    ``shapes[name]``: the sizes, a name for a symbolic one, None for an unknown one or rank.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model

    def __getitem__(self, name: str) -> Shape | None:
        return self._inferred.get(name)

    @cached_property
    def _inferred(self) -> Mapping[str, Shape | None]:
        return {
            name: None if kind is None else _shape(kind)
            for name, kind in inferred_types(self._model).items()
        }


def inferred_types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor | None]:
    """The type of every tensor whose shape is known or can be inferred, by its name.

    None where two branches call different values by one name.
    """
    model = skeleton(model)
    for graph in all_graphs(model.graph):
        for node in graph.node:
            if node.domain == DOMAIN:
                _stand_in(node)
    # Where it fails, what the file declares has to do.
    with suppress(onnx.shape_inference.InferenceError, ValueError):
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    types: dict[str, onnx.TypeProto.Tensor | None] = {}
    for graph in all_graphs(model.graph):
        found = [
            (t.name, helper.make_tensor_type_proto(t.data_type, t.dims).tensor_type)
            for t in graph.initializer
        ]
        for value in (*graph.value_info, *graph.input, *graph.output):
            if value.type.tensor_type.HasField("shape"):
                found.append((value.name, value.type.tensor_type))
        for name, kind in found:
            types[name] = kind if types.get(name, kind) == kind else None
    return types


def _shape(kind: onnx.TypeProto.Tensor) -> Shape:
    return tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim
    )


def _stand_in(node: onnx.NodeProto) -> None:
    """A standard operator of the same output shape, as inference does not know ours."""
    data, residual = node.input[0], list(node.input[3:4])
    del node.input[:], node.attribute[:]
    node.input.extend([data, *residual])
    node.op_type, node.domain = "Add" if residual else "Identity", ""
