"""TensorArrays of a frozen graph outside of loops, as the tensors that they hold.

tf2onnx converts the lists of While loops only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_READERS = frozenset(
    {
        "TensorListConcatV2",
        "TensorListGather",
        "TensorListGetItem",
        "TensorListLength",
        "TensorListStack",
    }
)


def replace(tf: Any, graph_def: Any, kept: Sequence[str]) -> None:
    """Replaces what is read from lists that are filled at constant indices, in place.

    Lists that enter or leave a loop, and elements of unknown shape that were never written, stay.

    Args:
        tf: the ``tensorflow`` module.
        graph_def: a frozen ``GraphDef``. The functions in its library stay as they are.
        kept: names of the tensors that the model takes and returns.
    """
    if not any(node.op in _READERS for node in graph_def.node):
        return
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
        # The elements of each list, None before they are written, or one tensor of all of them.
        lists: dict[str, Any] = {}
        results: dict[str, Any] = {}
        for op in graph.get_operations():
            with tf.name_scope(f"{op.name}/"):
                if op.type in _READERS and op.inputs[0].name in lists:
                    result = _read(tf, op, lists[op.inputs[0].name])
                    if result is not None:
                        results[op.name] = result
                elif op.outputs and op.outputs[0].dtype == tf.variant:
                    held = _held(tf, op, lists)
                    if held is not None:
                        lists[op.outputs[0].name] = held
        if not results:
            return
        rewritten = graph.as_graph_def(add_shapes=True)
    for node in rewritten.node:
        if node.name in results:
            name, shapes = node.name, node.attr["_output_shapes"]
            node.Clear()
            node.name, node.op = name, "Identity"
            node.input.append(results[name].name)
            node.attr["T"].type = results[name].dtype.as_datatype_enum
            node.attr["_output_shapes"].CopyFrom(shapes)
            # Of TensorListConcatV2, which has a second result.
            del node.attr["_output_shapes"].list.shape[1:]
    names = [name.partition(":")[0] for name in kept]
    graph_def.CopyFrom(tf.compat.v1.graph_util.extract_sub_graph(rewritten, names))


def _held(tf: Any, op: Any, lists: dict[str, Any]) -> Any:
    """What the list that an operation makes holds; None if that is not known."""
    if op.type == "TensorListReserve":
        size = tf.get_static_value(op.inputs[1])
        return None if size is None else [None] * int(size)
    if op.type == "TensorListFromTensor":
        return op.inputs[0]
    if op.type == "TensorListScatterV2":
        tensor, indices = op.inputs[0], tf.get_static_value(op.inputs[1])
        size = tf.get_static_value(op.inputs[3])
        return None if indices is None else _scattered(tf, [], tensor, indices, size)
    held = lists.get(op.inputs[0].name) if op.inputs else None
    if op.type == "TensorListScatterIntoExistingList":
        indices = tf.get_static_value(op.inputs[2])
        elements = _elements(tf, held)
        if elements is None or indices is None:
            return None
        return _scattered(tf, elements, op.inputs[1], indices, len(elements))
    if op.type == "Identity":
        return held
    if op.type in ("TensorListResize", "TensorListSetItem"):
        elements, index = _elements(tf, held), tf.get_static_value(op.inputs[1])
        if elements is None or index is None:
            return None
        if op.type == "TensorListResize":
            return (elements + [None] * int(index))[: int(index)]
        if not 0 <= index < len(elements):
            if index < 0 or not op.node_def.attr["resize_if_index_out_of_bounds"].b:
                return None
            elements += [None] * (int(index) + 1 - len(elements))
        return [*elements[:index], op.inputs[2], *elements[index + 1 :]]
    return None


def _elements(tf: Any, held: Any) -> list[Any] | None:
    """A new list of the elements, None if their number is not known."""
    if held is None or isinstance(held, list):
        return None if held is None else list(held)
    return None if held.shape.rank is None or held.shape[0] is None else tf.unstack(held)


def _scattered(tf: Any, elements: list[Any], tensor: Any, indices: Any, size: Any) -> Any:
    count = max([int(size if size is not None else -1), *(int(i) + 1 for i in indices)])
    held = elements + [None] * (count - len(elements))
    for position, index in enumerate(indices):
        held[int(index)] = tensor[position]
    return held


def _read(tf: Any, op: Any, held: Any) -> Any:
    """The first result of an operation that reads a list; None if that has no other form."""
    if op.type == "TensorListLength":
        return tf.constant(len(held)) if isinstance(held, list) else tf.shape(held)[0]
    if isinstance(held, list):
        if op.type == "TensorListGetItem":
            index = tf.get_static_value(op.inputs[1])
            if index is not None and 0 <= index < len(held) and held[index] is not None:
                return tf.identity(held[index])
        held = _filled(tf, op, held)
        if not held:
            return None
        if op.type == "TensorListConcatV2":
            # The second result, the lengths, is what gradients read.
            return None if op.outputs[1].consumers() else tf.concat(held, 0)
        held = tf.stack(held)
    if op.type == "TensorListStack":
        return tf.identity(held)
    if op.type == "TensorListConcatV2":
        if op.outputs[1].consumers() or held.shape.rank is None:
            return None
        return tf.concat(tf.unstack(held), 0) if held.shape[0] is not None else None
    return tf.gather(held, op.inputs[1])


def _filled(tf: Any, op: Any, held: list[Any]) -> list[Any] | None:
    """The elements, zeros where none was written; None if the shape of those is not known."""
    written = [element for element in held if element is not None]
    if len(written) == len(held):
        return held
    if op.type == "TensorListConcatV2":
        return None
    if written:
        zeros = tf.zeros_like(written[0])
    else:
        shape = op.outputs[0].shape
        if op.type != "TensorListGetItem" and shape.rank is not None:
            shape = shape[1:]
        if not shape.is_fully_defined():
            return None
        zeros = tf.zeros(shape, op.outputs[0].dtype)
    return [zeros if element is None else element for element in held]
