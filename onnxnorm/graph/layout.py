"""Keeps normalization nodes out of the way of layout changes.

Keras convolutions are channels-last, ONNX convolutions channels-first: tf2onnx puts Transposes
round each convolution and its transpose optimizer pushes them out through the operators that it
knows. Here it learns ours: a Transpose passes a normalization node by renaming the node's axes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from onnxnorm import bfloat16
from onnxnorm.graph.nodes import (
    Attributes,
    all_graphs,
    attributes_of,
    consumers,
    drop_unused_initializers,
    set_attributes,
)
from onnxnorm.opset import DOMAIN, OPERATORS
from onnxnorm.opset.operator import Operator

# The types of our operators in tf2onnx' graphs: it knows operators by their types alone, of which
# some are a standard operator's too, and in branches it forgets the domain.
TYPES = {f"{DOMAIN}.{name}": operator for name, operator in OPERATORS.items()}


def transpose_optimizer() -> type:
    """tf2onnx's TransposeOptimizer, extended to pass our operators."""
    from tf2onnx.optimizer.transpose_optimizer import TransposeOptimizer, invert_perm

    class NormalizationTransposeOptimizer(TransposeOptimizer):  # type: ignore[misc] # untyped
        def _initialize_handlers(self) -> None:
            super()._initialize_handlers()
            for name in TYPES:
                self._handler_map[name] = self._pass_normalization
            self._handler_map[bfloat16.MARK_OP] = self._simple_through_handler

        def _add_handler(self, trans: Any, node: Any) -> bool:
            # What is added behind a convolution counts as its bias there even where it is a
            # scalar, or runs along another axis than the channels.
            added = _constant(self._g, node.input[1])
            if added is not None and added.shape[-1:] != (added.size,):
                return bool(self._handle_node_having_branches(trans, node))
            return bool(super()._add_handler(trans, node))

        def _pass_normalization(self, trans: Any, node: Any) -> bool:
            data, *parameters = node.input
            if data != trans.output[0] or trans.output[0] in parameters:
                return False
            if not self._nodes_has_single_consumer_node([trans]):
                return False
            inverse = invert_perm(list(trans.get_attr_value("perm")))
            operator = TYPES[node.type]
            before = {
                name: node.get_attr_value(name) for name in operator.attributes if name in node.attr
            }
            changed = _permuted_parameters(
                operator, [_constant(self._g, name) for name in parameters], inverse
            )
            if changed is None:
                return False
            for position, value in enumerate(changed, start=1):
                if value is not None:
                    name = self._g.make_const(f"{node.child_name()}_parameter", value).output[0]
                    self._g.replace_input(node, node.input[position], name, position)
            for name, attribute in operator.permuted(before, inverse).items():
                node.set_attr(name, attribute)
            return bool(self._switch_transpose_and_node(node, trans))

    return NormalizationTransposeOptimizer


def _constant(graph: Any, name: str) -> npt.NDArray[Any] | None:
    node = graph.get_node_by_output(name)
    return node.get_tensor_value(as_list=False) if node is not None and node.is_const() else None


def _permuted_parameters(
    operator: Operator, values: Sequence[npt.NDArray[Any] | None], perm: Sequence[int]
) -> list[npt.NDArray[Any] | None] | None:
    """Scale and bias for a transposed input, None for one that stays as it is.

    None for the whole where a parameter would have to change but is no constant.
    """
    if not operator.broadcasts_parameters:
        return [None] * len(values)
    if any(value is None for value in values):
        return None
    return [permuted_parameter(value, perm) for value in values if value is not None]


def permuted_parameter(value: npt.NDArray[Any], perm: Sequence[int]) -> npt.NDArray[Any]:
    """A parameter broadcastable to X as one broadcastable to Transpose(X, perm)."""
    full = value.reshape((1,) * (len(perm) - value.ndim) + value.shape).transpose(perm)
    leading = next((i for i, size in enumerate(full.shape) if size != 1), len(perm) - 1)
    return np.ascontiguousarray(full.reshape(full.shape[leading:]))


def make_axes_trailing(model: onnx.ModelProto, operators: Collection[str]) -> None:
    """Moves a Transpose from behind a normalization node to before it where that makes the
    normalized axes, or the channel axis, the last ones.

    The count stays the same. Trailing axes are contiguous, and ONNX Runtime joins a Transpose
    that follows a convolution with the convolution's own reordering.

    Args:
        model: changed in place.
        operators: names of the operators to do it for.
    """
    for graph in all_graphs(model.graph):
        _make_axes_trailing(graph, operators)


def _make_axes_trailing(graph: onnx.GraphProto, operators: Collection[str]) -> None:
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    for node in list(graph.node):
        if node.domain != DOMAIN or node.op_type not in operators:
            continue
        after = consumers(graph, node.output[0])
        if node.output[0] in outputs or len(after) != 1 or after[0].op_type != "Transpose":
            continue
        perm: list[int] = attributes_of(after[0])["perm"]
        before = attributes_of(node)
        moved = OPERATORS[node.op_type].permuted(before, perm)
        if _trailing(before, len(perm)) or not _trailing(moved, len(perm)):
            continue
        if any(name not in initializers for name in node.input[1:]):
            continue
        _swap(graph, node, after[0], moved, perm)
    drop_unused_initializers(graph)


def _trailing(attributes: Attributes, rank: int) -> bool:
    listed = attributes["axes"] if "axes" in attributes else [attributes["axis"]]
    axes = sorted(a % rank for a in listed)
    return axes == list(range(rank - len(axes), rank))


def _swap(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    transpose: onnx.NodeProto,
    attributes: Attributes,
    perm: Sequence[int],
) -> None:
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    for position in (1, 2) if OPERATORS[node.op_type].broadcasts_parameters else ():
        value = numpy_helper.to_array(initializers[node.input[position]])
        name = f"{node.name}/{('', 'scale', 'bias')[position]}"
        graph.initializer.append(numpy_helper.from_array(permuted_parameter(value, perm), name))
        node.input[position] = name
    data, middle, result = node.input[0], node.output[0], transpose.output[0]
    transpose.input[0], transpose.output[0] = data, middle
    node.input[0], node.output[0] = middle, result
    set_attributes(node, attributes)
    # The Transpose now comes first: put it where the node stood.
    moved = onnx.NodeProto()
    moved.CopyFrom(transpose)
    graph.node.remove(transpose)
    graph.node.insert(list(graph.node).index(node), moved)
    stale = [value for value in graph.value_info if value.name == middle]
    for value in stale:
        graph.value_info.remove(value)
