"""A Dense layer over more than two axes as the one MatMul that it is.

Keras flattens the leading axes, multiplies, and gives them back; with a batch of any size that
takes a dozen nodes which compute shapes, and hides from other passes what is going on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# A size, or the name of a tensor and the axis of it that has the size.
Dimension = int | tuple[str, int]


def dense_optimizer() -> type:
    """An entry for tf2onnx's optimizer table: Reshape → MatMul → Reshape becomes MatMul."""
    from tf2onnx.optimizer.optimizer_base import GraphOptimizerBase

    class DenseAsMatMul(GraphOptimizerBase):  # type: ignore[misc] # untyped
        def _optimize(self, graph: Any) -> Any:
            return self._apply_optimization(graph, self._optimize_one_graph)

        def _optimize_one_graph(self, graph: Any) -> Any:
            for node in list(graph.get_nodes()):
                if node.type == "MatMul" and (restored := _restoring_reshape(graph, node)):
                    flattened = graph.get_node_by_output(node.input[0])
                    graph.replace_input(node, node.input[0], flattened.input[0], 0)
                    name, shape = restored.output[0], graph.get_shape(restored.output[0])
                    dtype = graph.get_dtype(name)
                    inputs = list(node.input)
                    graph.remove_node(restored.name)
                    graph.remove_node(node.name)
                    graph.make_node(
                        "MatMul",
                        inputs,
                        outputs=[name],
                        name=node.name,
                        shapes=[shape],
                        dtypes=[dtype],
                    )
                    self.graph_been_opt = True
            return graph

    return DenseAsMatMul


def _restoring_reshape(graph: Any, product: Any) -> Any:
    """The Reshape behind a product that gives the leading axes back, None where it is no such."""
    flattened = graph.get_node_by_output(product.input[0])
    if flattened is None or flattened.type != "Reshape":
        return None
    x = flattened.input[0]
    shapes = [graph.get_shape(n) for n in (x, flattened.output[0], product.input[1])]
    if any(shape is None for shape in shapes):
        return None
    given, flat, kernel = shapes
    if len(given) < 3 or len(flat) != 2 or len(kernel) != 2 or -1 in kernel:
        return None
    # The product needs a last axis of the kernel's size: with that as it was, what was flattened
    # are the axes before it.
    if given[-1] != kernel[0]:
        return None
    readers = graph.find_output_consumers(product.output[0])
    if len(readers) != 1 or readers[0].type != "Reshape" or product.output[0] in graph.outputs:
        return None
    wanted = [*dimensions_of(graph, x)[:-1], kernel[1]]
    return readers[0] if _is(wanted, dimensions(graph, readers[0].input[1])) else None


def _is(wanted: Sequence[Dimension], found: Sequence[Dimension] | None) -> bool:
    """Whether Reshape's shape is the wanted one, given that the number of elements is."""
    if found is None or len(found) != len(wanted):
        return False
    different = [own for own, other in zip(found, wanted, strict=True) if own != other]
    return different in ([], [-1])


def dimensions_of(graph: Any, tensor: str) -> list[Dimension]:
    """The sizes of a tensor of known rank."""
    shape = graph.get_shape(tensor)
    return [size if size >= 0 else (tensor, axis) for axis, size in enumerate(shape)]


def dimensions(graph: Any, tensor: str) -> list[Dimension] | None:
    """The sizes that a tensor of sizes holds; None where they are computed in another way."""
    node = graph.get_node_by_output(tensor)
    if node is None:
        return None
    if node.is_const():
        return [int(size) for size in node.get_tensor_value(as_list=False).flatten()]
    if node.type in ("Cast", "Identity"):
        return dimensions(graph, node.input[0])
    if node.type == "Shape" and not {"start", "end"} & set(node.attr):
        known = graph.get_shape(node.input[0]) is not None
        return dimensions_of(graph, node.input[0]) if known else None
    parts = [dimensions(graph, name) for name in node.input]
    if node.type == "Concat":
        return None if None in parts else [size for part in parts if part for size in part]
    if node.type == "Gather" and None not in parts:
        sizes, positions = parts
        if sizes and positions and all(isinstance(position, int) for position in positions):
            return [sizes[position] for position in positions if isinstance(position, int)]
    return None
