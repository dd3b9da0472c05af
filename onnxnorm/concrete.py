"""Changes to the graph of a ``tf.ConcreteFunction``, which by itself cannot be changed."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

# What keeps TensorFlow from inlining a function: Keras compiles grouped and depthwise convolutions.
_NOT_INLINED = ("_XlaMustCompile", "_noinline")


def without_compilation(tf: Any, function: Any) -> Any:
    """The function with its compiled parts as ordinary operations, or itself if it has none."""
    graph_def = function.graph.as_graph_def(add_shapes=True)
    holders = [
        *graph_def.library.function,
        *graph_def.node,
        *(node for definition in graph_def.library.function for node in definition.node_def),
    ]
    marked = [h for h in holders if any(h.attr[name].b for name in _NOT_INLINED if name in h.attr)]
    if not marked:
        return function
    for holder in marked:
        for name in _NOT_INLINED:
            holder.attr.pop(name, None)
    return rebuilt(tf, function, graph_def)


def rebuilt(tf: Any, function: Any, graph_def: Any) -> Any:
    """A ConcreteFunction of a changed graph, with inputs, outputs and captures of the original.

    Args:
        tf: the ``tensorflow`` module.
        function: the original.
        graph_def: its graph, changed between the inputs and the outputs; functions in its library
            are renamed.
    """
    _rename_functions(graph_def)
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


def _rename_functions(graph_def: Any) -> None:
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
