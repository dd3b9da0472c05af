"""Markers in the functions that a SavedModel brings along.

A subclassed model that Keras loads from a SavedModel without its class calls functions stored in
the file, in which each layer's call is a function of its own. The layers themselves are whole, so
their functions' bodies are replaced by what the layers leave when they are traced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onnxnorm import concrete
from onnxnorm.errors import ConversionError

# From a layer's input to its marked output.
Mark = Callable[[Any], Any]

_LAYER_FUNCTION = re.compile(
    r"__inference_(.+)_layer_call_(?:fn|and_return_conditional_losses)_\d+"
)


def is_restored(layer: Any) -> bool:
    """Whether a layer or model came out of a SavedModel without the class that defines its call."""
    return any(base.__name__ == "RevivedLayer" for base in type(layer).__mro__)


def with_markers(tf: Any, function: Any, marks: Mapping[str, Sequence[Mark]]) -> Any:
    """The function with markers for the bodies of its layers' functions.

    Args:
        tf: the ``tensorflow`` module.
        function: a ``tf.ConcreteFunction`` that calls restored functions.
        marks: layer name to what leaves the layer's marker, one for each layer of that name.

    Raises:
        ConversionError: several layers share a name, or a function has not the form in which
            Keras saves a layer.
    """
    graph_def = function.graph.as_graph_def(add_shapes=True)
    for definition in graph_def.library.function:
        found = _LAYER_FUNCTION.fullmatch(definition.signature.name)
        if found is None or found[1] not in marks:
            continue
        name = found[1]
        if len(marks[name]) > 1:
            raise ConversionError(
                f"layer {name!r}: {len(marks[name])} layers have this name, and their functions "
                "in the SavedModel cannot be told apart; convert the model object"
            )
        definition.CopyFrom(_marked(tf, definition, marks[name][0], name))
    return concrete.rebuilt(tf, function, graph_def)


def _marked(tf: Any, definition: Any, mark: Mark, layer_name: str) -> Any:
    first, *rest = definition.signature.input_arg
    resources = [arg for arg in rest if arg.type == tf.resource.as_datatype_enum]
    if len(resources) != len(rest) or len(definition.signature.output_arg) != 1:
        raise ConversionError(
            f"layer {layer_name!r}: its function in the SavedModel has inputs or outputs beside "
            "the layer's own; convert the model object"
        )
    shapes = definition.arg_attr[0].attr["_output_shapes"].list.shape
    dtype = tf.as_dtype(first.type)
    x = tf.TensorSpec(shapes[0] if shapes else None, dtype)

    def body(x: Any, *_: Any) -> Any:
        return mark(x)

    traced = tf.function(body, autograph=False).get_concrete_function(
        x, *(tf.TensorSpec([], tf.resource) for _ in resources)
    )
    marked = traced.function_def
    marked.signature.name = definition.signature.name
    return marked
