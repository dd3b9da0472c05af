"""Divisions by a root of sums: what normalizing looks like in standard operators."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from onnxnorm.graph.nodes import all_graphs

_SUMS = frozenset({"ReduceMean", "ReduceSum", "ReduceSumSquare"})
# What stands between the sum, the root and the division.
_BETWEEN = frozenset(
    {"Add", "Cast", "Clip", "Div", "Expand", "Identity", "Max", "Mul", "Reshape", "Squeeze"}
    | {"Sub", "Transpose", "Unsqueeze"}
)

# How many nodes in a row are looked at.
_FAR = 6


def by_root_of_sums(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that divide by a root of sums over what the model computes, subgraphs included.

    Variances, mean squares and lengths in one form or another; softmax, which divides by a sum,
    and means are not among them.
    """
    return [
        node
        for graph in all_graphs(model.graph)
        for producers in [{name: node for node in graph.node for name in node.output}]
        for node in graph.node
        if (divisor := _divisor(node)) is not None and _is_root_of_sums(divisor, producers)
    ]


def _divisor(node: onnx.NodeProto) -> str | None:
    if node.domain or node.op_type not in ("Reciprocal", "Div"):
        return None
    divisor: str = node.input[-1]
    return divisor


def _is_root_of_sums(value: str, producers: Mapping[str, onnx.NodeProto]) -> bool:
    root = _nearest(value, producers, frozenset({"Sqrt", "ReduceL2"}))
    return root is not None and (
        root.op_type == "ReduceL2" or _nearest(root.input[0], producers, _SUMS) is not None
    )


def _nearest(
    value: str, producers: Mapping[str, onnx.NodeProto], wanted: frozenset[str]
) -> onnx.NodeProto | None:
    """The first wanted node behind a value, with nothing but `_BETWEEN` on the way."""
    waiting = [value]
    for _ in range(_FAR):
        nodes = [producers[name] for name in waiting if name in producers]
        for node in nodes:
            if node.op_type in wanted:
                return node
        waiting = [name for node in nodes if node.op_type in _BETWEEN for name in node.input]
    return None
