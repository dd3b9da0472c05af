"""Native lowering: each ``onnxnorm`` node becomes standard operators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from onnxnorm.errors import ConversionError
from onnxnorm.graph import records
from onnxnorm.graph.nodes import all_graphs, attributes_of, drop_unused_initializers, keep_only
from onnxnorm.opset import DOMAIN, OPERATORS
from onnxnorm.opset.operator import Site

Shape = tuple[int | None, ...]


def lower(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every ``onnxnorm`` node replaced by its operator's lowering.

    The layer records in the model tell of the new nodes.

    Raises:
        ConversionError: the rank, channel count or element type of a node's input is unknown.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    opset = next(o.version for o in result.opset_import if o.domain in ("", "ai.onnx"))
    types = tensor_types(result)
    became: dict[str, list[str]] = {}
    for graph in all_graphs(result.graph):
        _lower_graph(graph, types, opset, became)
    records.note_lowered(result, model, became)
    keep_only(result.functions, lambda entry: entry.domain != DOMAIN)
    keep_only(result.opset_import, lambda entry: entry.domain != DOMAIN)
    return result


def _lower_graph(
    graph: onnx.GraphProto,
    types: Mapping[str, onnx.TypeProto.Tensor],
    opset: int,
    became: dict[str, list[str]],
) -> None:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.domain != DOMAIN:
            nodes.append(node)
            continue
        statements = OPERATORS[node.op_type].lower(_site(node, types, constants, opset))
        became[node.name] = []
        for statement in _inlined(node, statements, opset):
            folded = _folded(statement, constants, opset)
            if folded is None:
                nodes.append(statement)
                became[node.name].append(statement.name)
            else:
                constants[folded.name] = folded
    del graph.node[:]
    graph.node.extend(nodes)
    known = {tensor.name for tensor in graph.initializer}
    graph.initializer.extend(t for name, t in constants.items() if name not in known)
    drop_unused_initializers(graph)


def tensor_types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    """The tensor type of every value whose type is known or can be inferred, by its name."""
    inferred = shape_inference.infer_shapes(model)
    types: dict[str, onnx.TypeProto.Tensor] = {}
    for graph in all_graphs(inferred.graph):
        for value in (*graph.value_info, *graph.input, *graph.output):
            types[value.name] = value.type.tensor_type
        for tensor in graph.initializer:
            made = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
            types[tensor.name] = made.tensor_type
    return types


def _site(
    node: onnx.NodeProto,
    types: Mapping[str, onnx.TypeProto.Tensor],
    constants: Mapping[str, onnx.TensorProto],
    opset: int,
) -> Site:
    kind = types.get(node.input[0])
    if kind is None or not kind.HasField("shape") or not kind.elem_type:
        raise ConversionError(
            f"node {node.name!r} ({node.op_type}): the type and rank of its input "
            f"{node.input[0]!r} are unknown, so it has no form in standard operators"
        )
    defaults = {k: v for k, v in OPERATORS[node.op_type].attributes.items() if v is not None}
    shape, scale, bias = (_shape(types.get(name)) for name in node.input)
    assert shape is not None  # its type has one
    attributes = {**defaults, **attributes_of(node)}
    for parameter in (scale, bias):
        if parameter is not None:
            shape = _completed(shape, parameter, attributes.get("axis"))
    has_scale, has_bias = (
        name not in constants or bool(np.any(numpy_helper.to_array(constants[name]) != neutral))
        for name, neutral in zip(node.input[1:], (1, 0), strict=True)
    )
    return Site(attributes, shape, (scale, bias), kind.elem_type, opset, has_scale, has_bias)


def _completed(shape: Shape, parameter: Shape, channel_axis: int | None) -> Shape:
    """The shape with sizes that inference lost and the shape of a parameter tells."""
    rank = len(shape)
    if channel_axis is None:
        told: Shape = (None,) * (rank - len(parameter)) + parameter
    else:
        told = tuple(parameter[0] if a == channel_axis % rank else None for a in range(rank))
    return tuple(
        own if own is not None or size == 1 else size for own, size in zip(shape, told, strict=True)
    )


def _shape(kind: onnx.TypeProto.Tensor | None) -> Shape | None:
    if kind is None or not kind.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)


def _inlined(node: onnx.NodeProto, statements: str, opset: int) -> Iterable[onnx.NodeProto]:
    """The statements as nodes that stand in for the node, named after it."""
    function = onnx.parser.parse_function(
        f'<domain: "{DOMAIN}", opset_import: ["" : {opset}]>\n'
        f"{node.op_type} (X, scale, bias) => (Y)\n{{{statements}}}"
    )
    names = dict(zip(("X", "scale", "bias"), node.input, strict=True)) | {"Y": node.output[0]}
    for index, inner in enumerate(function.node):
        inner.name = f"{node.name}/{inner.op_type}_{index}"
        for field in (inner.input, inner.output):
            renamed = [names.get(value, f"{node.name}/{value}") for value in field]
            del field[:]
            field.extend(renamed)
        yield inner


def _folded(
    node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], opset: int
) -> onnx.TensorProto | None:
    """The node's value where all its inputs are constants."""
    if any(name not in constants for name in node.input):
        return None
    graph = onnx.helper.make_graph(
        [node],
        "constant",
        [],
        [onnx.helper.make_empty_tensor_value_info(node.output[0])],
        initializer=[constants[name] for name in node.input],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    (value,) = ReferenceEvaluator(model).run(None, {})
    return numpy_helper.from_array(np.asarray(value), node.output[0])
