"""Norms between convolutions that ONNX Runtime keeps in blocks of channels, without reorders.

What ONNX Runtime writes as its optimized model has ReorderOutput, norm, ReorderInput for every norm
between two convolutions. A norm can read and write the blocks itself, and so can operators that go
element by element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import helper

from onnxnorm.graph.fusion.shapes import Shapes
from onnxnorm.graph.nodes import (
    all_graphs,
    attributes_of,
    free_name,
    keep_only,
    read_by,
    set_nodes,
)
from onnxnorm.opset import DOMAIN, RESIDUAL

#: The domain of ONNX Runtime's operators on blocks.
NCHWC = "com.microsoft.nchwc"
_STANDARD = ("", "ai.onnx")
_NORMS = ("GroupNormalization", "InstanceNormalization")
_OF_ONE = ("Relu", "LeakyRelu", "Elu", "Selu", "Sigmoid", "Tanh", "Softplus", "HardSwish", "Clip")
_OF_SEVERAL = ("Add", "Sub", "Mul", "Div", "Sum", "Max", "Min")


@dataclass(frozen=True)
class Blocks:
    """A value of the graph as it is stored in blocks.

    Attributes:
        name: its name there.
        channels: how many it has.
        channels_last: whether the value is (N, height, width, C) itself, else (N, C, height,
            width).
    """

    name: str
    channels: int
    channels_last: bool


def take_out_reorders(model: onnx.ModelProto, shapes: Shapes, block: int) -> tuple[str, ...]:
    """Makes norms work on blocks of channels, in subgraphs too.

    Args:
        model: what ONNX Runtime wrote as its optimized model, changed in place.
        shapes: those of the values in the model that it read.
        block: how many channels are a block.

    Returns:
        the names of the norms that do so now.
    """
    graphs = list(all_graphs(model.graph))
    taken = {name for graph in graphs for node in graph.node for name in node.output}
    taken.update(value.name for graph in graphs for value in (*graph.input, *graph.initializer))
    # Inner graphs first: to replace a graph's nodes is to copy those inside.
    return tuple(
        name for graph in reversed(graphs) for name in _Pass(graph, shapes, block, taken).run()
    )


class _Pass:
    """One graph, from its first node to its last."""

    def __init__(self, graph: onnx.GraphProto, shapes: Shapes, block: int, taken: set[str]) -> None:
        self._graph = graph
        self._shapes = shapes
        self._block = block
        self._taken = taken
        self._blocks: dict[str, Blocks] = {}
        self._nodes: list[onnx.NodeProto] = []

    def run(self) -> list[str]:
        norms = []
        same: dict[str, str] = {}  # result of a reorder to that which has its values already
        for node in self._graph.node:
            for place, name in enumerate(node.input):
                node.input[place] = same.get(name, name)
            source = self._blocks.get(node.input[0]) if node.input else None
            if _is_reorder(node, "ReorderOutput"):
                self._append_reorder(node)
            elif source and _is_reorder(node, "ReorderInput"):
                same[node.output[0]] = source.name
            elif source and not source.channels_last and _puts_channels_last(node):
                self._reorder(source.name, node.output[0], source.channels, channels_last=True)
            elif source and self._can_take_blocks(node, source):
                self._take_blocks(node, source)
                if node.domain == DOMAIN:
                    norms.append(node.name)
            else:
                self._nodes.append(node)
        set_nodes(self._graph, self._nodes)
        self._drop_unread_reorders()
        return norms

    def _append_reorder(self, node: onnx.NodeProto) -> None:
        self._nodes.append(node)
        attributes = attributes_of(node)
        if attributes["channels"] % self._block == 0:
            self._blocks[node.output[0]] = Blocks(
                node.input[0], attributes["channels"], attributes.get("channels_last", 0) == 1
            )

    def _reorder(self, blocks: str, output: str, channels: int, channels_last: bool) -> None:
        self._append_reorder(
            helper.make_node(
                "ReorderOutput",
                [blocks],
                [output],
                name=f"{output}_reorder",
                domain=NCHWC,
                channels=channels,
                channels_last=int(channels_last),
            )
        )

    def _can_take_blocks(self, node: onnx.NodeProto, source: Blocks) -> bool:
        data = _data(node)
        layouts = {
            found and (found.channels, found.channels_last) for found in map(self._blocks.get, data)
        }
        if layouts != {(source.channels, source.channels_last)}:
            return False
        return self._groups_fit(node, source) if node.domain == DOMAIN else self._one_shape(data)

    def _groups_fit(self, node: onnx.NodeProto, source: Blocks) -> bool:
        attributes = attributes_of(node)
        axis = attributes.get("axis", 1) % 4
        depth = source.channels // attributes.get("num_groups", source.channels)
        if depth % self._block != 0 and self._block % depth != 0:
            return False
        return bool(axis == (3 if source.channels_last else 1))

    def _one_shape(self, names: Sequence[str]) -> bool:
        """Whether the operands are known to have one shape: what is repeated has another order."""
        shapes = {self._shapes[name] for name in names}
        return len(names) == 1 or (len(shapes) == 1 and None not in (shapes.pop() or (None,)))

    def _take_blocks(self, node: onnx.NodeProto, source: Blocks) -> None:
        (output,) = node.output
        result = free_name(f"{output}_blocks", self._taken)
        for place, name in enumerate(node.input):
            if name in _data(node):
                node.input[place] = self._blocks[name].name
        node.output[0] = result
        if node.domain == DOMAIN:
            keep_only(node.attribute, lambda attribute: attribute.name != "axis")
            for key, value in {"axis": 1, "channel_block": self._block}.items():
                node.attribute.append(helper.make_attribute(key, value))
        self._nodes.append(node)
        self._reorder(result, output, source.channels, source.channels_last)

    def _drop_unread_reorders(self) -> None:
        read = {value.name for value in self._graph.output}.union(*map(read_by, self._graph.node))
        keep_only(
            self._graph.node,
            lambda node: not _is_reorder(node, "ReorderOutput") or node.output[0] in read,
        )


def _data(node: onnx.NodeProto) -> list[str]:
    """The inputs that an operator goes through element by element, as blocks or not; or none."""
    if node.domain == DOMAIN and node.op_type.removeprefix(RESIDUAL) in _NORMS:
        return [node.input[0], *node.input[3:]]
    if node.domain not in _STANDARD:
        return []
    if node.op_type in _OF_ONE:
        return [node.input[0]]
    return list(node.input) if node.op_type in _OF_SEVERAL else []


def _is_reorder(node: onnx.NodeProto, operator: str) -> bool:
    return node.domain == NCHWC and node.op_type == operator


def _puts_channels_last(node: onnx.NodeProto) -> bool:
    is_transpose = node.op_type == "Transpose" and node.domain in _STANDARD
    return is_transpose and list(attributes_of(node).get("perm", ())) == [0, 2, 3, 1]
