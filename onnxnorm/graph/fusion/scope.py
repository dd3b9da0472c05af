"""A graph as the fusions see it: who makes a value and who reads it, with nodes to replace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from onnxnorm.graph.fusion.shapes import Shapes
from onnxnorm.graph.nodes import attributes_of, keep_only, read_by

Array = npt.NDArray[Any]


class Scope:
    """One graph of a model.

    Nodes are named by their place in the graph, which they keep until `finish`.

    Attributes:
        outputs: names of the graph's outputs.
        shapes: the static shapes of the model's values.
    """

    def __init__(
        self, graph: onnx.GraphProto, shapes: Shapes, outer: Mapping[str, onnx.TensorProto]
    ) -> None:
        self.outputs = {value.name for value in graph.output}
        self.shapes = shapes
        self._graph = graph
        self._nodes: dict[int, onnx.NodeProto] = dict(enumerate(graph.node))
        self._maker: dict[str, int] = {}
        self._readers: dict[str, set[int]] = defaultdict(set)
        for place, node in self._nodes.items():
            self._enter(place, node)
        # An initializer that is an input too is only the input's default.
        inputs = {value.name for value in graph.input}
        self.constants: dict[str, onnx.TensorProto] = {
            **{name: tensor for name, tensor in outer.items() if name not in self._maker},
            **{tensor.name: tensor for tensor in graph.initializer},
            **{node.output[0]: tensor for node in graph.node if (tensor := _constant(node))},
        }
        for name in inputs:
            self.constants.pop(name, None)

    @property
    def places(self) -> list[int]:
        """The places of all nodes, in order."""
        return list(self._nodes)

    def node(self, place: int) -> onnx.NodeProto:
        return self._nodes[place]

    def maker(self, value: str) -> int | None:
        """The place of the node of this graph that makes a value."""
        return self._maker.get(value)

    def readers(self, value: str) -> tuple[int, ...]:
        """The places of the nodes that read a value, in themselves or in a graph inside them."""
        return tuple(sorted(self._readers[value]))

    def number(self, value: str, like: str) -> Array | None:
        """A constant of one element that leaves the shape of ``like`` as it is."""
        tensor = self.constants.get(value)
        if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        if any(size != 1 for size in tensor.dims):
            return None
        if len(tensor.dims) > 1:
            shape = self.shapes[like]
            if shape is None or len(shape) < len(tensor.dims):
                return None
        return np.asarray(numpy_helper.to_array(tensor))

    def replace(self, places: Iterable[int], node: onnx.NodeProto) -> int:
        """Puts a node in the place of the last of several, and constants that they alone read out.

        Returns:
            the place of the new node.
        """
        gone = sorted(places)
        removed = [self._remove(place) for place in gone]
        self._nodes[gone[-1]] = node
        self._enter(gone[-1], node)
        for value in {name for old in removed for name in old.input if name not in node.input}:
            maker = self.maker(value)
            if (
                maker is not None
                and value in self.constants
                and not self._readers[value]
                and value not in self.outputs
            ):
                self._remove(maker)
        return gone[-1]

    def finish(self) -> None:
        """Writes the nodes back into the graph."""
        nodes = [self._nodes[place] for place in sorted(self._nodes)]
        before = {name for node in self._graph.node for name in node.output}
        after = {name for node in nodes for name in node.output}
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        keep_only(self._graph.value_info, lambda value: value.name not in before - after)

    def _enter(self, place: int, node: onnx.NodeProto) -> None:
        for name in filter(None, node.output):
            self._maker[name] = place
        for name in read_by(node):
            self._readers[name].add(place)

    def _remove(self, place: int) -> onnx.NodeProto:
        node = self._nodes.pop(place)
        for name in filter(None, node.output):
            del self._maker[name]
        for name in read_by(node):
            self._readers[name].discard(place)
        return node


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The tensor of a Constant node of one number or one tensor."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    for name, value in attributes_of(node).items():
        if name == "value":
            return value  # type: ignore[no-any-return]
        if name in ("value_float", "value_floats"):
            return numpy_helper.from_array(np.asarray(value, np.float32))
        if name in ("value_int", "value_ints"):
            return numpy_helper.from_array(np.asarray(value, np.int64))
    return None
