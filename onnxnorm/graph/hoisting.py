"""What a step computes of its slices alone leaves it, for all steps at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from onnxnorm.graph.nodes import attributes_of, free_name, keep_only, read_by, set_attributes
from onnxnorm.opset import DOMAIN, OPERATORS

_OF_ONE = frozenset(
    {"Abs", "Cast", "Elu", "Erf", "Exp", "Identity", "LeakyRelu", "Neg", "Relu", "Selu"}
    | {"Sigmoid", "Softplus", "Softsign", "Sqrt", "Tanh"}
)
_OF_TWO = frozenset({"Add", "Div", "Mul", "Sub"})
# ONNX Runtime 1.26 to 1.32 dies of a Transpose before a float16 MatMul, as sequences often have.
_MULTIPLIED = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE})


@dataclass(frozen=True)
class Hoisted:
    """What left a step.

    Attributes:
        nodes: they compute for all steps what they computed in each.
        constants: what they read that the step held.
        sequences: the slices that the step reads now, to what they are slices of.
    """

    nodes: tuple[onnx.NodeProto, ...]
    constants: tuple[onnx.TensorProto, ...]
    sequences: Mapping[str, str]


def hoist(
    step: onnx.GraphProto,
    slices: Mapping[str, str],
    types: Mapping[str, onnx.TypeProto.Tensor | None],
    taken: set[str],
) -> Hoisted:
    """Takes out of a step the products, sums and norms of its slices with what no step changes.

    Args:
        step: changed in place. It reads the slices by their names, without making them.
        slices: names of the slices to those of the sequences, stacked along a new first axis.
        types: types of the step's values.
        taken: names that values or nodes have already.
    """
    held = {tensor.name: tensor for tensor in step.initializer}
    changing = {value.name for value in step.input} | set(slices)
    changing.update(name for node in step.node for name in node.output)
    results = {value.name for value in step.output}
    stacked, constants = dict(slices), dict[str, onnx.TensorProto]()
    nodes: list[onnx.NodeProto] = []
    for node in step.node:
        fixed = [name not in changing for name in node.input]
        if node.output[0] in results or not all(
            f or name in stacked for f, name in zip(fixed, node.input, strict=True)
        ):
            continue
        known = [kind for name in node.input if (kind := types.get(name)) is not None]
        if len(known) < len(fixed) or not _is_for_all_steps(node, fixed, known):
            continue
        rank = len(known[0].shape.dim)
        moved = onnx.NodeProto()
        moved.CopyFrom(node)
        for position, name in enumerate(node.input):
            if name in held:
                constants.setdefault(name, _renamed(held[name], taken))
                moved.input[position] = constants[name].name
            elif not fixed[position]:
                moved.input[position] = stacked[name]
        moved.output[0] = stacked[node.output[0]] = free_name(f"{node.output[0]}/steps", taken)
        if node.domain != DOMAIN:
            moved.name = free_name(f"{node.name}/steps", taken)
        else:
            attributes = {**OPERATORS[node.op_type].attributes, **attributes_of(node)}
            attributes["axes"] = [a if a < 0 else a - rank for a in attributes["axes"]]
            set_attributes(moved, attributes)
        nodes.append(moved)
    keep_only(step.node, lambda node: node.output[0] not in stacked)
    read = {name for node in step.node for name in read_by(node)}
    keep_only(step.initializer, lambda tensor: tensor.name in read)
    sequences = {name: sequence for name, sequence in stacked.items() if name in read}
    return Hoisted(tuple(nodes), tuple(constants.values()), sequences)


def _is_for_all_steps(
    node: onnx.NodeProto, fixed: Sequence[bool], types: Sequence[onnx.TypeProto.Tensor]
) -> bool:
    """Whether a node does the same for each entry along one more first axis of what changes."""
    ranks = [len(kind.shape.dim) for kind in types]
    whole = {rank for rank, f in zip(ranks, fixed, strict=True) if not f}
    # A value of more axes than the slices would meet the new axis with its own.
    if len(whole) != 1 or any(rank > max(whole) for rank in ranks):
        return False
    if node.domain == DOMAIN:
        operator = OPERATORS[node.op_type]
        over_axes = "axes" in operator.attributes and operator.broadcasts_parameters
        return over_axes and list(fixed) == [False, True, True]
    if node.domain:
        return False
    if node.op_type == "MatMul":
        kind = types[0].elem_type
        return kind in _MULTIPLIED and list(fixed) == [False, True] and ranks[1] == 2
    return node.op_type in _OF_ONE | _OF_TWO


def _renamed(tensor: onnx.TensorProto, taken: set[str]) -> onnx.TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.name = free_name(tensor.name, taken)
    return copy
