"""A traced function as one graph without variables; its large weights stay where they are.

A protobuf message ends at 2 GB, and each pass over a graph copies what is in it. So the graph
holds a reference for each large weight, and the value is Keras' own memory. The reference is an
``ImmutableConst``: TensorFlow neither looks into one nor makes up a value for it, as it does for
placeholders.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxnorm.weights import is_large

Array = npt.NDArray[Any]

# Bytes up to which a result may be larger than the weights that it is made of.
_GROWTH = 2**20
_PASSES_ON = frozenset({"Identity", "PreventGradient", "Snapshot", "StopGradient"})


@dataclass(frozen=True)
class Frozen:
    """A model's graph without variables.

    Attributes:
        graph_def: the ``tf.GraphDef``.
        weights: name of each reference in it to the large weight that it stands for.
        tables: contents of its hash tables, as tf2onnx wants them.
    """

    graph_def: Any
    weights: Mapping[str, Array]
    tables: Mapping[Any, Any]


def freeze(
    tf: Any,
    tf_loader: Any,
    model: Any,
    function: Any,
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Frozen:
    """Makes constants of the variables that a function reads, inlines and simplifies it.

    What is computed of large weights alone, such as a cast, is computed here.

    Args:
        tf: the ``tensorflow`` module.
        tf_loader: the module ``tf2onnx.tf_loader``.
        model: the Keras model, which tf2onnx searches for hash tables.
        function: the traced ``tf.ConcreteFunction``.
        inputs: names of its input tensors.
        outputs: names of its output tensors.
    """
    # What bfloat16 becomes is decided on the constants themselves.
    variables = {} if has_bfloat16(tf, function) else _large_variables(function)
    values = {name: _value(variable) for name, variable in variables.items()}
    graph_def, tables = _without_variables(tf_loader, model, function, variables)
    _refer(tf, graph_def, values)
    graph_def, weights = _folded(tf, graph_def, values, [*inputs, *outputs])
    with tf.Graph().as_default():
        graph_def = tf_loader.tf_optimize(list(inputs), list(outputs), graph_def)
    left = {node.name for node in graph_def.node}
    weights = {name: value for name, value in weights.items() if name in left}
    return Frozen(graph_def, weights, tables)


def has_bfloat16(tf: Any, function: Any) -> bool:
    """Whether a traced function has anything of bfloat16 in it."""
    graph_def = function.graph.as_graph_def()
    nodes = [*graph_def.node, *(n for f in graph_def.library.function for n in f.node_def)]
    types = {attribute.type for node in nodes for attribute in node.attr.values()}
    return tf.bfloat16.as_datatype_enum in types


def _large_variables(function: Any) -> dict[str, Any]:
    """The large variables, by the name of the placeholder through which the graph reads them."""
    variables = {id(variable.handle): variable for variable in function.graph.variables}
    captured = {
        inner.op.name: variables[id(outer)]
        for outer, inner in function.graph.captures
        if id(outer) in variables
    }
    return {
        name: variable
        for name, variable in captured.items()
        if variable.shape.is_fully_defined()
        and is_large(tuple(variable.shape), variable.dtype.as_numpy_dtype)
    }


def _value(variable: Any) -> Array:
    """The variable's own memory, read only."""
    return np.asarray(memoryview(variable.read_value()))


class _StandIn:
    """A variable whose value has its shape and element type, but not its size.

    TensorFlow writes a constant as a shape and the first elements; the last of them repeats.
    """

    def __init__(self, variable: Any) -> None:
        self.handle = variable.handle
        self.shape = tuple(variable.shape)
        self.dtype = variable.dtype.as_numpy_dtype

    def numpy(self) -> _StandIn:
        return self

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.zeros(1, dtype or self.dtype)


def _without_variables(
    tf_loader: Any, model: Any, function: Any, large: Mapping[str, Any]
) -> tuple[Any, Any]:
    graph = function.graph
    variables = list(graph.variables)
    handles = {id(variable.handle) for variable in large.values()}
    # The graph keeps weak references only.
    replaced = [_StandIn(v) if id(v.handle) in handles else v for v in variables]
    graph.variables = replaced
    try:
        graph_def, tables = tf_loader.from_trackable(model, function, [], [], large_model=True)
    finally:
        graph.variables = variables
    graph_def = tf_loader.fix_freezing_errors(graph_def)
    return tf_loader.fix_freezing_errors_part2(graph_def), tables


def _refer(tf: Any, graph_def: Any, values: Mapping[str, Array]) -> None:
    """Turns nodes into references to these values."""
    for node in graph_def.node:
        if node.name in values:
            name, value = node.name, values[node.name]
            node.Clear()
            node.name, node.op = name, "ImmutableConst"
            node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
            node.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
            node.attr["memory_region_name"].s = name.encode()


def _folded(
    tf: Any, graph_def: Any, values: Mapping[str, Array], kept: Sequence[str]
) -> tuple[Any, dict[str, Array]]:
    """What depends on large weights alone, computed.

    Returns:
        The part of the graph that the tensors of ``kept`` need, with references to what was
        computed, and the values of all references in it.
    """
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
    kept = [name.partition(":")[0] for name in kept]
    results, rest = {}, []
    for tensor in _last_computable(graph, values, kept):
        origin = _origin(tensor)
        if origin.op.name in values:
            results[tensor.name] = values[origin.op.name]
        else:
            rest.append(tensor)
    if rest:
        with tf.compat.v1.Session(graph=graph) as session:
            found = session.run(rest, {f"{name}:0": value for name, value in values.items()})
        results |= {tensor.name: value for tensor, value in zip(rest, found, strict=True)}
    graph_def = graph.as_graph_def(add_shapes=True)
    names = _split(graph_def, results)
    weights = {names[tensor]: value for tensor, value in results.items()}
    _refer(tf, graph_def, weights)
    return tf.compat.v1.graph_util.extract_sub_graph(graph_def, kept), weights


def _last_computable(graph: Any, weights: Collection[str], kept: Collection[str]) -> list[Any]:
    """The weights, and what can be computed of them, where something else reads it."""
    constant: set[str] = set()
    weighty: set[str] = set(weights)
    for op in graph.get_operations():
        if op.name in weighty or op.type == "Const":
            constant.add(op.name)
        elif op.name not in kept and _is_computable(op, constant, weighty):
            constant.add(op.name)
            if any(tensor.op.name in weighty for tensor in op.inputs):
                weighty.add(op.name)
    return [
        tensor
        for op in graph.get_operations()
        if op.name in weighty
        for tensor in op.outputs
        if any(reader.name not in constant for reader in tensor.consumers())
    ]


def _is_computable(op: Any, constant: Collection[str], weighty: Collection[str]) -> bool:
    if not op.inputs or not op.outputs or op.control_inputs or op.op_def.is_stateful:
        return False
    if any(attribute.type in ("func", "list(func)") for attribute in op.op_def.attr):
        return False
    if any(tensor.op.name not in constant for tensor in op.inputs):
        return False
    large = [tensor for tensor in op.inputs if tensor.op.name in weighty]
    return not large or _bytes(op.outputs) <= max(_bytes(large), _GROWTH)


def _bytes(tensors: Sequence[Any]) -> float:
    """The size of tensors, infinite where a shape is unknown."""
    counts = [tensor.shape.num_elements() for tensor in tensors]
    if None in counts:
        return math.inf
    return float(sum(n * t.dtype.size for n, t in zip(counts, tensors, strict=True)))


def _origin(tensor: Any) -> Any:
    """The tensor that operations only pass on."""
    while tensor.op.type in _PASSES_ON:
        tensor = tensor.op.inputs[0]
    return tensor


def _split(graph_def: Any, tensors: Collection[str]) -> dict[str, str]:
    """A node for each tensor, the one that computes it where that has no other result."""
    several = {name.partition(":")[0] for name in tensors if not name.endswith(":0")}
    names = {}
    for tensor in tensors:
        node, _, index = tensor.partition(":")
        names[tensor] = f"{node}/{index}" if node in several else node
        if node in several:
            graph_def.node.add(name=names[tensor])
    for node in graph_def.node:
        for position, read in enumerate(node.input):
            tensor = read if ":" in read else f"{read}:0"
            if tensor in names:
                node.input[position] = names[tensor]
    return names
