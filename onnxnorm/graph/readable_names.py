"""Names of values and dimensions that a reader of the converted file understands.

A name depends on the model alone and not on a counter of the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import onnx
import onnx.shape_inference

from onnxnorm.graph.nodes import all_graphs, free_name, set_nodes
from onnxnorm.graph.skeleton import skeleton
from onnxnorm.opset import DOMAIN

BATCH = "batch"
_COUNTED = re.compile(r"unk__\d+")
_MARKER = re.compile(r"(^|/)PyFunc(?=[_:]|$)")
# Sizes for unknown dimensions, to see where they arrive: primes, as a product of others is none.
_PRIMES = (7919, 6007)
_OTHER_PRIME = 101


def name_values(model: onnx.ModelProto) -> None:
    """Names the outputs of normalization nodes after the nodes, in place.

    Names of the model's inputs and outputs stay.
    """
    graphs = list(all_graphs(model.graph))
    taken = {
        name
        for graph in graphs
        for names in (
            *([*node.input, *node.output, node.name] for node in graph.node),
            (value.name for value in (*graph.input, *graph.output)),
            (tensor.name for tensor in graph.initializer),
        )
        for name in names
    }
    own = {value.name for value in (*model.graph.input, *model.graph.output)}
    values: dict[str, str] = {}
    for node in (node for graph in graphs for node in graph.node):
        for output in node.output:
            if output in own or output in values:
                continue
            if node.domain == DOMAIN:
                values[output] = free_name(f"{node.name}/output", taken)
            elif _MARKER.search(output):
                values[output] = free_name(_without_marker(output), taken)
        if node.domain != DOMAIN and _MARKER.search(node.name):
            node.name = free_name(_without_marker(node.name), taken)
    rest = (named.name for graph in graphs for named in (*graph.initializer, *graph.input))
    for name in rest:
        if name not in own and _MARKER.search(name):
            values.setdefault(name, free_name(_without_marker(name), taken))
    rename_values(model, values)


def _without_marker(name: str) -> str:
    return _MARKER.sub(r"\1normalized", name)


def rename_values(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Gives values other names in the graph and in every graph inside it, in place."""
    for graph in all_graphs(model.graph):
        for node in graph.node:
            for field in (node.input, node.output):
                if any(name in names for name in field):
                    renamed = [names.get(name, name) for name in field]
                    del field[:]
                    field.extend(renamed)
        for named in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            if named.name in names:
                named.name = names[named.name]


def name_dimensions(model: onnx.ModelProto) -> None:
    """Names each unknown dimension after its value, and the batch ``batch``, in place.

    The batch is the unknown first dimension of the model's inputs, and each dimension of an output
    that is of its size whatever that is.
    """
    outputs = _dimensions_of_batch(model)
    for graph in all_graphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            for place, dimension in enumerate(value.type.tensor_type.shape.dim):
                if _is_unknown(dimension):
                    dimension.dim_param = f"{value.name}_dim_{place}"
    for value in model.graph.input:
        for dimension in value.type.tensor_type.shape.dim[:1]:
            if dimension.dim_param == f"{value.name}_dim_0":
                dimension.dim_param = BATCH
    for value in model.graph.output:
        for place, dimension in enumerate(value.type.tensor_type.shape.dim):
            if (value.name, place) in outputs and dimension.dim_param:
                dimension.dim_param = BATCH


def _is_unknown(dimension: onnx.TensorShapeProto.Dimension) -> bool:
    return bool(_COUNTED.fullmatch(dimension.dim_param)) or not (
        dimension.dim_param or dimension.HasField("dim_value")
    )


def _dimensions_of_batch(model: onnx.ModelProto) -> set[tuple[str, int]]:
    """Dimensions of the outputs that have the batch's size, by shape inference with two sizes."""
    found = [set(_of_size(model, size)) for size in _PRIMES]
    return set.intersection(*found)


def _of_size(model: onnx.ModelProto, batch: int) -> Iterator[tuple[str, int]]:
    probe = skeleton(model)
    inputs = {value.name for value in model.graph.input}
    for value in probe.graph.input:
        for place, dimension in enumerate(value.type.tensor_type.shape.dim):
            if value.name in inputs and _is_unknown(dimension):
                dimension.dim_value = batch if place == 0 else _OTHER_PRIME
    for graph in all_graphs(probe.graph):
        del graph.value_info[:]
        set_nodes(graph, list(map(_as_identity, graph.node)))
    for value in probe.graph.output:
        for dimension in value.type.tensor_type.shape.dim:
            if _is_unknown(dimension):
                dimension.Clear()
    try:
        inferred = onnx.shape_inference.infer_shapes(probe, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return
    for value in inferred.graph.output:
        for place, dimension in enumerate(value.type.tensor_type.shape.dim):
            if dimension.dim_value == batch:
                yield value.name, place


def _as_identity(node: onnx.NodeProto) -> onnx.NodeProto:
    """A normalization node as one whose output's shape is inferred."""
    if node.domain != DOMAIN:
        return node
    return onnx.helper.make_node("Identity", node.input[:1], node.output, node.name)
