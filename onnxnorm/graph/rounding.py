"""bfloat16 in a float32 model: marks of rounding become pairs of Casts, and none that does nothing.

ONNX Runtime's CPU stores and casts bfloat16 but computes hardly anything in it. So a value is
bfloat16 where it enters, leaves or is a weight, and at a normalization node, which takes it;
between those it is float32 that is rounded where the marks say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxnorm.graph.nodes import (
    all_graphs,
    consumers,
    drop_unused_initializers,
    keep_only,
    set_nodes,
)
from onnxnorm.opset import DOMAIN

Float32 = npt.NDArray[np.float32]

# Elements from which on a weight is worth a Cast.
_LARGE = 1024


def store_bfloat16(model: onnx.ModelProto, mark: str, outside: Collection[str]) -> None:
    """Makes bfloat16 of what a float32 model rounds to it, in place.

    Args:
        model: a model whose nodes of type ``mark`` stand for a rounding to bfloat16.
        mark: an operator type that nothing else in the model has.
        outside: names of the model's inputs and outputs that are bfloat16.
    """
    graph = model.graph
    if not outside and not any(node.op_type == mark for node in _all_nodes(graph)):
        return
    inputs = [value.name for value in graph.input if value.name in outside]
    outputs = [value.name for value in graph.output if value.name in outside]
    _rename(graph, {name: _wide(name) for name in (*inputs, *outputs)})
    for value in (*graph.input, *graph.output):
        if value.name in outside:
            value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    # The float32 values that were cast from bfloat16, and what from.
    origins = {_wide(name): name for name in inputs}
    for inner in all_graphs(graph):
        _expand(inner, mark, origins)
    set_nodes(
        graph,
        [
            *(_cast(name, _wide(name), TensorProto.FLOAT) for name in inputs),
            *graph.node,
            *(_cast(_wide(name), name, TensorProto.BFLOAT16) for name in outputs),
        ],
    )
    _store_constants(graph, origins)
    _drop_idle_casts(graph, origins)
    drop_unused_initializers(graph)


def _wide(name: str) -> str:
    return f"{name}_float32"


def _stored(name: str) -> str:
    return f"{name}_bfloat16"


def _cast(source: str, result: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [result], name=f"{result}/Cast", to=to)


def _is_cast_to(node: onnx.NodeProto, to: int) -> bool:
    return node.op_type == "Cast" and node.attribute[0].i == to


def _expand(graph: onnx.GraphProto, mark: str, origins: dict[str, str]) -> None:
    """A pair of Casts for each mark, and Casts round each normalization node before one."""
    results = {value.name for value in graph.output}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        value = node.output[0] if node.output else ""
        if node.op_type == mark:
            nodes.append(_cast(node.input[0], _stored(value), TensorProto.BFLOAT16))
        elif (
            node.domain == DOMAIN
            and value not in results
            and [reader.op_type for reader in consumers(graph, value)] == [mark]
        ):
            for position, name in enumerate(node.input):
                node.input[position] = f"{node.name}/{_stored(name)}"
                nodes.append(_cast(name, node.input[position], TensorProto.BFLOAT16))
            node.output[0] = _stored(value)
            nodes.append(node)
        else:
            nodes.append(node)
            continue
        nodes.append(_cast(_stored(value), value, TensorProto.FLOAT))
        origins[value] = _stored(value)
    for known in list(graph.value_info):
        if known.name in origins:
            shape = graph.value_info.add()
            shape.CopyFrom(known)
            shape.name = origins[known.name]
            shape.type.tensor_type.elem_type = TensorProto.BFLOAT16
    set_nodes(graph, nodes)


def _store_constants(outer: onnx.GraphProto, origins: dict[str, str]) -> None:
    """bfloat16 initializers where a Cast makes them so, and for large ones that lose nothing."""
    cast = {n.input[0] for n in _all_nodes(outer) if _is_cast_to(n, TensorProto.BFLOAT16)}
    for graph in all_graphs(outer):
        nodes = list(graph.node)
        for tensor in list(graph.initializer):
            if tensor.data_type != TensorProto.FLOAT or _stored(tensor.name) in origins.values():
                continue
            values = numpy_helper.to_array(tensor)
            if tensor.name in cast:
                graph.initializer.append(_tensor(_stored(tensor.name), values))
                origins[tensor.name] = _stored(tensor.name)
            elif values.size >= _LARGE and _is_bfloat16(values):
                graph.initializer.append(_tensor(_stored(tensor.name), values))
                graph.initializer.remove(tensor)
                nodes.insert(0, _cast(_stored(tensor.name), tensor.name, TensorProto.FLOAT))
        set_nodes(graph, nodes)


def _drop_idle_casts(outer: onnx.GraphProto, origins: Mapping[str, str]) -> None:
    """Removes Casts back to bfloat16 of what was cast from it, then those that nothing reads."""
    values = [v.name for graph in all_graphs(outer) for v in (*graph.input, *graph.output)]
    constants = [tensor.name for graph in all_graphs(outer) for tensor in graph.initializer]
    fixed = {*values, *constants}
    renamed: dict[str, str] = {}
    idle: set[str] = set()
    for node in _all_nodes(outer):
        if not _is_cast_to(node, TensorProto.BFLOAT16) or node.input[0] not in origins:
            continue
        result, origin = node.output[0], _renamed(origins[node.input[0]], renamed)
        if result not in fixed:
            renamed[result] = origin
        elif origin not in fixed:
            renamed[origin] = result
        else:
            continue
        idle.add(result)
    for graph in all_graphs(outer):
        set_nodes(graph, [node for node in graph.node if not idle.intersection(node.output)])
    _rename(outer, {name: _renamed(name, renamed) for name in renamed})
    read = {name for node in _all_nodes(outer) for name in node.input} | set(values)
    unread = origins.keys() - read
    for graph in all_graphs(outer):
        set_nodes(graph, [node for node in graph.node if not unread.intersection(node.output)])


def _all_nodes(outer: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for graph in all_graphs(outer):
        yield from graph.node


def _renamed(name: str, names: Mapping[str, str]) -> str:
    while name in names:
        name = names[name]
    return name


def _rename(outer: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for graph in all_graphs(outer):
        for node in graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
        keep_only(graph.value_info, lambda value: value.name not in names)


def _tensor(name: str, values: Float32) -> onnx.TensorProto:
    """The values rounded to the nearest bfloat16, of two the even one."""
    bits = np.ascontiguousarray(values).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    stored = np.where(np.isnan(values), bits >> 16 | 1, rounded).astype("<u2")
    return helper.make_tensor(name, TensorProto.BFLOAT16, values.shape, stored.tobytes(), raw=True)


def _is_bfloat16(values: Float32) -> bool:
    return not np.any(np.ascontiguousarray(values).view(np.uint32) & 0xFFFF)
