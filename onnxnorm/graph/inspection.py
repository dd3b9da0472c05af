"""The normalization layers and nodes of an ONNX model, read from the file alone."""

from __future__ import annotations

import os
from collections import ChainMap, Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import onnx
import onnx.shape_inference

from onnxnorm import arguments
from onnxnorm.errors import ModelFileError
from onnxnorm.graph import cpu_target, other_tools, recorded_and_found, records, renamed, source
from onnxnorm.graph.cpu_target import CpuTarget
from onnxnorm.graph.functions import bodies, computes, foreign_bodies
from onnxnorm.graph.nodes import all_graphs, attributes_of
from onnxnorm.graph.recorded_and_found import Place
from onnxnorm.graph.records import Dimension, LayerRecord
from onnxnorm.graph.skeleton import skeleton
from onnxnorm.graph.source import Source
from onnxnorm.modelfile import load
from onnxnorm.opset import DOMAIN, RESIDUAL, checks

Form = Literal["custom", "native"]
Types = Mapping[str, onnx.TypeProto.Tensor]
Functions = Mapping[tuple[str, str], onnx.FunctionProto]

_IN_FUNCTION = "function "

NATIVE_OPERATORS = frozenset(
    {
        ("", "BatchNormalization"),
        ("", "GroupNormalization"),
        ("", "InstanceNormalization"),
        ("", "LayerNormalization"),
        ("", "LpNormalization"),
        ("", "MeanVarianceNormalization"),
        ("", "RMSNormalization"),
        ("", "SimplifiedLayerNormalization"),
        ("com.microsoft", "GroupNorm"),
        ("com.microsoft", "SimplifiedLayerNormalization"),
        ("com.microsoft", "SkipGroupNorm"),
        ("com.microsoft", "SkipLayerNormalization"),
        ("com.microsoft", "SkipSimplifiedLayerNormalization"),
    }
)


@dataclass(frozen=True)
class NodeRecord:
    """One normalization node.

    Attributes:
        name: the node's name, that of the layer in files that onnxnorm wrote.
        operator: operator name without its domain.
        domain: operator domain, empty for the standard one.
        location: where the node sits: ``graph``, ``graph/loop.body`` for a node in the attribute
            ``body`` of node ``loop``, or ``function domain::name``.
        input_dtype: numpy's name of the first input's element type, None where the file does
            not tell.
        input_shape: its dimensions, a name for a symbolic one, None for an unknown one; None
            where the rank is unknown.
        attributes: the attributes that the node gives.
        form: ``custom`` for a node of the ``onnxnorm`` domain, ``native`` for one that ONNX
            Runtime knows by itself.
        has_function: whether the file holds a function body that computes what the node does, so
            that a custom node also runs without the onnxnorm library.
    """

    name: str
    operator: str
    domain: str
    location: str
    input_dtype: str | None
    input_shape: tuple[Dimension, ...] | None
    attributes: Mapping[str, Any]
    form: Form
    has_function: bool

    def to_dict(self) -> dict[str, Any]:
        """The record in types that JSON knows."""
        return asdict(self)


@dataclass(frozen=True)
class Inspection:
    """What an ONNX model tells of its normalization.

    Attributes:
        layers: the layer records that the conversion left in the model, with the values of the
            nodes where these are others; none in a model from elsewhere.
        nodes: its normalization nodes in the order of the graph, subgraphs included.
        problems: where the records are missing, unreadable or at odds with the graph.
        cpu: the one kind of CPU that it runs on; None where it runs on any.
        source: the model that it was converted from and the versions of the programs that did,
            several of merged files; none of a file from elsewhere.
    """

    layers: tuple[LayerRecord, ...]
    nodes: tuple[NodeRecord, ...]
    problems: tuple[str, ...]
    cpu: CpuTarget | None = None
    source: tuple[Source, ...] = ()

    @property
    def other_nodes(self) -> tuple[NodeRecord, ...]:
        """The nodes that no layer record names."""
        named = {name for layer in self.layers for name in layer.nodes}
        return tuple(node for node in self.nodes if node.name not in named)

    def to_dict(self) -> dict[str, Any]:
        """The findings in types that JSON knows."""
        return {
            "layers": [layer.to_dict() for layer in self.layers],
            "nodes": [node.to_dict() for node in self.nodes],
            "problems": list(self.problems),
            "cpu": self.cpu and asdict(self.cpu),
            "source": [dict(source) for source in self.source],
        }


def inspect(model: str | os.PathLike[str] | onnx.ModelProto) -> Inspection:
    """What became of each normalization layer, and every normalization node in the graph.

    Args:
        model: an ONNX file or a loaded model. External weights are not read.

    Raises:
        ModelFileError: the file is missing, damaged or not an ONNX file, or nodes of the
            ``onnxnorm`` domain are not what the domain says.
    """
    if isinstance(model, onnx.ModelProto):
        proto, name = model, "the model"
    else:
        model = arguments.path("inspect", "model", model, "an onnx.ModelProto")
        proto, name = load(model, weights=False), model
    if proto is model and renamed.any_in(proto):
        proto = onnx.ModelProto()
        proto.CopyFrom(model)
    other_names = renamed.give_back(proto)
    checks.check(proto, name)
    functions = {
        **{(body.domain, body.name): body for body in proto.functions if body.domain != DOMAIN},
        **{(DOMAIN, name): body for name, body in bodies(proto).items()},
    }
    places = tuple(_all_places(proto))
    nodes = tuple(
        _record(place, location, functions)
        for place, location in places
        if _is_normalization(place.node)
    )
    try:
        layers, cpu = records.read(proto, name), cpu_target.read(proto, name)
    except ModelFileError as error:
        return Inspection((), nodes, (str(error),), source=source.read(proto))
    in_graph = [place for place, location in places if not location.startswith(_IN_FUNCTION)]
    layers, problems = _compared(layers, nodes, in_graph)
    traces = other_tools.traces(proto, other_names, layers)
    problems = (*problems, *foreign_bodies(proto), *traces)
    return Inspection(layers, nodes, problems, cpu, source.read(proto))


def _compared(
    layers: Sequence[LayerRecord], nodes: Sequence[NodeRecord], places: Sequence[Place]
) -> tuple[tuple[LayerRecord, ...], tuple[str, ...]]:
    """The records with the values of the file, and the problems."""
    if nodes and not layers:
        problem = (
            "no layer records: the file was not converted by onnxnorm, or another tool took them, "
            "as onnx.version_converter takes records and function bodies"
        )
        return (), (problem,)
    problems: list[str] = []
    found_layers: list[LayerRecord] = []
    named = {name for layer in layers for name in layer.nodes}
    by_name: dict[str, list[Place]] = {}
    for place in places:
        if place.node.name in named:
            by_name.setdefault(place.node.name, []).append(place)
    for layer in layers:
        own = [place for node in dict.fromkeys(layer.nodes) for place in by_name.get(node, ())]
        found = recorded_and_found.differences(layer, own)
        found_layers.append(recorded_and_found.as_found(layer, found))
        told = [*_other_nodes(layer, by_name), *map(str, found)]
        problems += (f"layer {layer.name!r}: {problem}" for problem in told)
    return tuple(found_layers), tuple(problems)


def _other_nodes(layer: LayerRecord, by_name: Mapping[str, Sequence[Place]]) -> Iterator[str]:
    """Where the file has other nodes than the layer's record names."""
    gone = [name for name in layer.nodes if name not in by_name]
    if gone:
        yield (
            f"the graph has no node {' and no '.join(map(repr, gone))} any more; the file was "
            "changed since"
        )
    for name, count in Counter(layer.nodes).items():
        own = by_name.get(name, ())
        if len(own) > count:
            yield f"{len(own)} nodes are named {name!r} in the file, {count} in the record"
        if layer.lowering != "custom" or layer.spec is None:
            continue
        for node in (place.node for place in own):
            if node.domain != DOMAIN or node.op_type.removeprefix(RESIDUAL) != layer.spec.operator:
                yield (
                    f"node {name!r} is {node.domain or 'ai.onnx'}.{node.op_type}, the record says "
                    f"{DOMAIN}.{layer.spec.operator}"
                )


def _all_places(proto: onnx.ModelProto) -> Iterator[tuple[Place, str]]:
    """Every node with where it sits: in the graph, its subgraphs, and functions but our own."""
    tensors = [tensor for graph in all_graphs(proto.graph) for tensor in graph.initializer]
    times = Counter(tensor.name for tensor in tensors)
    # Scopes can give different tensors one name: of these, what is known is what stays below.
    constants = ChainMap({tensor.name: tensor for tensor in tensors if times[tensor.name] == 1})
    yield from _places(_with_shapes(proto).graph, "graph", {}, constants)
    for function in proto.functions:
        if function.domain != DOMAIN:
            where = f"{_IN_FUNCTION}{function.domain}::{function.name}"
            yield from ((Place(node, None, None), where) for node in function.node)


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(skeleton(model))
    except (onnx.shape_inference.InferenceError, ValueError):
        return model  # what the file declares has to do


def _places(
    graph: onnx.GraphProto,
    location: str,
    outer_types: Types,
    outer_constants: ChainMap[str, onnx.TensorProto],
) -> Iterator[tuple[Place, str]]:
    types = {**outer_types, **_types(graph)}
    own = {tensor.name: tensor for tensor in graph.initializer}
    own |= {
        node.output[0]: attribute.t
        for node in graph.node
        if node.op_type == "Constant" and node.output
        for attribute in node.attribute
        if attribute.name == "value"
    }
    constants = outer_constants.new_child(own) if own else outer_constants
    for node in graph.node:
        tensor = types.get(node.input[0]) if node.input else None
        yield Place(node, _dtype(tensor), _shape(tensor), constants), location
        for attribute in node.attribute:
            place = f"{location}/{node.name or node.op_type}.{attribute.name}"
            for inner in (attribute.g, *attribute.graphs):
                yield from _places(inner, place, types, constants)


def _is_normalization(node: onnx.NodeProto) -> bool:
    domain = "" if node.domain == "ai.onnx" else node.domain
    return domain == DOMAIN or (domain, node.op_type) in NATIVE_OPERATORS


def _types(graph: onnx.GraphProto) -> Types:
    values = chain(graph.input, graph.value_info, graph.output)
    return {value.name: value.type.tensor_type for value in values}


def _record(place: Place, location: str, functions: Functions) -> NodeRecord:
    node = place.node
    function = functions.get((node.domain, node.op_type))
    return NodeRecord(
        name=node.name,
        operator=node.op_type,
        domain=node.domain,
        location=location,
        input_dtype=place.input_dtype,
        input_shape=place.input_shape,
        attributes={name: _plain(value) for name, value in attributes_of(node).items()},
        form="custom" if node.domain == DOMAIN else "native",
        has_function=function is not None and computes(function, node),
    )


def _dtype(tensor: onnx.TypeProto.Tensor | None) -> str | None:
    if tensor is None or tensor.elem_type not in onnx.TensorProto.DataType.values()[1:]:
        return None
    name: str = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def _shape(tensor: onnx.TypeProto.Tensor | None) -> tuple[Dimension, ...] | None:
    if tensor is None or not tensor.HasField("shape"):
        return None
    return tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim
    )


def _plain(value: Any) -> Any:
    """An attribute's value in types that JSON knows."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float):
        # Stored as float32: 0.001, not 0.0010000000474974513.
        return float(str(np.float32(value)))
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
