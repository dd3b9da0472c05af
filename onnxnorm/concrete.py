"""Changes to the graph of a ``tf.ConcreteFunction``, which by itself cannot be changed."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

# What changes a variable.
ASSIGN = frozenset({"AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"})
# What keeps TensorFlow from inlining a function: Keras compiles grouped and depthwise convolutions.
_NOT_INLINED = ("_XlaMustCompile", "_noinline")


def without_compilation(tf: Any, function: Any) -> Any:
    """The function with its compiled parts as ordinary operations, and without dead branches.

    Itself if it has neither.
    """
    graph_def = function.graph.as_graph_def(add_shapes=True)
    holders = [
        *graph_def.library.function,
        *graph_def.node,
        *(node for definition in graph_def.library.function for node in definition.node_def),
    ]
    marked = [h for h in holders if any(h.attr[name].b for name in _NOT_INLINED if name in h.attr)]
    for holder in marked:
        for name in _NOT_INLINED:
            holder.attr.pop(name, None)
    dead = [
        node
        for node in graph_def.node
        if node.op in ("If", "StatelessIf")
        and _is_false(tf, function.graph.get_operation_by_name(node.name).inputs[0])
    ]
    for node in dead:
        _take_else_branch(node)
    return rebuilt(tf, function, graph_def) if marked or dead else function


def _is_false(tf: Any, tensor: Any) -> bool:
    """Whether a condition cannot hold: TensorFlow folds no conjunction of known and unknown parts.

    RandomCrop draws numbers where it trains and the image is large enough.
    """
    value = tf.get_static_value(tensor)
    if value is not None:
        return bool(value.shape == () and not value)
    if tensor.op.type in ("Identity", "LogicalAnd", "Pack"):
        return any(_is_false(tf, part) for part in tensor.op.inputs)
    return tensor.op.type == "All" and _is_false(tf, tensor.op.inputs[0])


def _take_else_branch(node: Any) -> None:
    """A branching becomes a call of its second branch."""
    branch = node.attr["else_branch"].func
    node.op = "PartitionedCall"
    node.attr["f"].func.CopyFrom(branch)
    del node.input[0]
    for name in [name for name in node.attr if name not in ("f", "Tin", "Tout")]:
        del node.attr[name]


def with_lookup_shapes(tf: Any, graph_def: Any) -> Any:
    """A frozen graph in which the results of lookup tables have the shapes of their keys.

    TensorFlow infers them from the table's handle, which is not in the graph.
    """
    names = [node.name for node in graph_def.node if node.op == "LookupTableFindV2"]
    while names:
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(graph_def, name="")
        ready = [
            name
            for name in names
            if graph.get_operation_by_name(name).inputs[1].shape.rank is not None
        ]
        for name in ready:
            names.remove(name)
            operation = graph.get_operation_by_name(name)
            _ensure_shape(graph_def, operation.outputs[0], operation.inputs[1].shape)
        if not ready:
            break
    return graph_def


def _ensure_shape(graph_def: Any, tensor: Any, shape: Any) -> None:
    """Puts an ``EnsureShape`` between a tensor and its readers."""
    source = tensor.op.name
    name = f"{source}/shape"
    for node in graph_def.node:
        for index, given in enumerate(node.input):
            if given in (source, f"{source}:0"):
                node.input[index] = name
    node = graph_def.node.add(name=name, op="EnsureShape", input=[source])
    node.attr["T"].type = tensor.dtype.as_datatype_enum
    node.attr["shape"].shape.CopyFrom(shape.as_proto())


def without_assignments(tf: Any, function: Any) -> Any:
    """The function without what it does to variables, or itself if it does nothing."""
    assigning = {o.name for o in function.graph.get_operations() if o.type in ASSIGN}
    if not assigning:
        return function
    graph_def = function.graph.as_graph_def(add_shapes=True)
    waited_for = {f"^{name}" for name in assigning}
    kept = [node for node in graph_def.node if node.name not in assigning]
    for node in kept:
        inputs = [name for name in node.input if name not in waited_for]
        del node.input[:]
        node.input.extend(inputs)
    nodes = [type(node).FromString(node.SerializeToString()) for node in kept]
    del graph_def.node[:]
    graph_def.node.extend(nodes)
    return rebuilt(tf, function, graph_def)


def rebuilt(tf: Any, function: Any, graph_def: Any) -> Any:
    """A ConcreteFunction of a changed graph, with inputs, outputs and captures of the original.

    Args:
        tf: the ``tensorflow`` module.
        function: the original.
        graph_def: its graph, changed between the inputs and the outputs; functions in its library
            are renamed.
    """
    rename_functions(graph_def)
    captures = list(function.graph.captures)

    def load() -> None:
        graph = tf.compat.v1.get_default_graph()
        captured = {inner.name: graph.capture(outer) for outer, inner in captures}
        tf.graph_util.import_graph_def(graph_def, input_map=captured, name="")

    wrapped = tf.compat.v1.wrap_function(load, [])
    wrapped.graph.variables = function.graph.variables
    own = len(function.inputs) - len(captures)
    element = wrapped.graph.as_graph_element
    return wrapped.prune(
        [element(tensor.name) for tensor in function.inputs[:own]],
        [element(tensor.name) for tensor in function.outputs],
    )


def rename_functions(graph_def: Any) -> None:
    """New names for all functions: TensorFlow knows the old ones with their old bodies."""
    suffix = f"_{uuid.uuid4().hex}"
    functions = graph_def.library.function
    names = {definition.signature.name for definition in functions}
    for definition in functions:
        definition.signature.name += suffix
    for node in itertools.chain(graph_def.node, *(d.node_def for d in functions)):
        if node.op in names:
            node.op += suffix
        for attribute in node.attr.values():
            for reference in (attribute.func, *attribute.list.func):
                if reference.name in names:
                    reference.name += suffix
    for gradient in graph_def.library.gradient:
        gradient.function_name += suffix
        gradient.gradient_func += suffix
