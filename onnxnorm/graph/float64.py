"""float64 where ONNX Runtime's CPU has no kernel for it: by operators that have one, or refused."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxnorm.errors import ConversionError
from onnxnorm.graph.native import tensor_types
from onnxnorm.graph.nodes import all_graphs, attributes_of, drop_unused_initializers, set_nodes
from onnxnorm.opset import DOMAIN

Shape = tuple[int | None, ...]

_WITHOUT_KERNEL = frozenset(
    {
        "Acos",
        "Acosh",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "AveragePool",
        "Conv",
        "ConvTranspose",
        "Cosh",
        "Det",
        "Erf",
        "GRU",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Hardmax",
        "LRN",
        "LSTM",
        "LpPool",
        "RNN",
        "Resize",
        "Sinh",
        "Tan",
        "Upsample",
    }
)


def lower(model: onnx.ModelProto, at_layer: Callable[[str], str]) -> None:
    """Replaces float64 nodes that no CPU kernel of ONNX Runtime computes, in place.

    Args:
        model: changed in place.
        at_layer: name of a node to the beginning of a sentence about it.

    Raises:
        ConversionError: an operator for which there is no replacement.
    """
    if not _has_float64(model):
        return
    types = tensor_types(model)
    for graph in all_graphs(model.graph):
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            kind = types.get(node.input[0]) if node.input else None
            if (
                node.domain == DOMAIN
                or node.op_type not in _WITHOUT_KERNEL
                or kind is None
                or kind.elem_type != TensorProto.DOUBLE
            ):
                nodes.append(node)
                continue
            if node.op_type not in _LOWERINGS:
                raise ConversionError(
                    f"{at_layer(node.name)}operation {node.name!r}: ONNX Runtime's CPU has no "
                    f"float64 {node.op_type}; give the layer dtype float32"
                )
            shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
            site = _Site(node, graph, shape, at_layer(node.name))
            _LOWERINGS[node.op_type](site)
            nodes += site.nodes
        set_nodes(graph, nodes)
    drop_unused_initializers(model.graph)


def _has_float64(model: onnx.ModelProto) -> bool:
    return any(
        tensor.data_type == TensorProto.DOUBLE
        for graph in all_graphs(model.graph)
        for tensor in graph.initializer
    ) or any(v.type.tensor_type.elem_type == TensorProto.DOUBLE for v in model.graph.input)


@dataclass
class _Site:
    """The node to replace, and the nodes that are put in its place."""

    node: onnx.NodeProto
    graph: onnx.GraphProto
    shape: Shape
    at_layer: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def add(self, operator: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        name = f"{self.node.name}/{operator}_{len(self.nodes)}"
        output = output or name
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def ints(self, *values: int) -> str:
        name = f"{self.node.name}/{'_'.join(map(str, values))}"
        if all(tensor.name != name for tensor in self.graph.initializer):
            tensor = numpy_helper.from_array(np.array(values, np.int64), name)
            self.graph.initializer.append(tensor)
        return name


def _convolution(site: _Site) -> None:
    """A product of the weights with every window of the input."""
    attributes = attributes_of(site.node)
    data, weights, *bias = site.node.input
    weight = next((t for t in site.graph.initializer if t.name == weights), None)
    if weight is None:
        raise _refused(site, "weights that are no constant")
    kernel = list(weight.dims[2:])
    outputs, groups = weight.dims[0], attributes.get("group", 1)
    columns = weight.dims[1] * math.prod(kernel)
    windows = list(_windows(site, data, kernel))
    stacked = [site.add("Unsqueeze", [w, site.ints(2)]) for w in windows]
    patches = site.add("Concat", stacked, axis=2)
    patches = site.add("Reshape", [patches, site.ints(0, groups, columns, -1)])
    matrix = numpy_helper.to_array(weight).reshape(groups, outputs // groups, columns)
    name = f"{site.node.name}/weights"
    site.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(matrix), name))
    product = site.add("MatMul", [name, patches])
    pixels = site.add("Shape", windows[:1], start=2)
    batch = site.add("Shape", windows[:1], start=0, end=1)
    full = site.add("Concat", [batch, site.ints(outputs), pixels], axis=0)
    result = site.node.output[0]
    y = site.add("Reshape", [product, full], "" if bias else result)
    if bias:
        spread = site.add("Reshape", [bias[0], site.ints(outputs, *(1 for _ in kernel))])
        site.add("Add", [y, spread], result)


def _average(site: _Site) -> None:
    """The sum over each window, divided by how much of the window lies on the input."""
    attributes = attributes_of(site.node)
    kernel = list(attributes["kernel_shape"])
    (data,) = site.node.input
    if attributes.get("ceil_mode") or attributes.get("count_include_pad"):
        raise _refused(site, "ceil_mode or count_include_pad")
    total = site.add("Sum", list(_windows(site, data, kernel)))
    shape = site.add("Shape", [data])
    one = numpy_helper.from_array(np.ones(1))
    ones = site.add("ConstantOfShape", [shape], value=one)
    count = site.add("Sum", list(_windows(site, ones, kernel)))
    site.add("Div", [total, count], site.node.output[0])


def _windows(site: _Site, data: str, kernel: Sequence[int]) -> Iterator[str]:
    """For each position in the window, what lies there under all windows."""
    attributes = attributes_of(site.node)
    rank = len(kernel)
    strides = attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank)
    reach = [(size - 1) * dilation for size, dilation in zip(kernel, dilations, strict=True)]
    pads = _pads(site, attributes, reach, strides)
    if any(pads):
        amounts = [0, 0, *pads[:rank], 0, 0, *pads[rank:]]
        data = site.add("Pad", [data, site.ints(*amounts)], mode="constant")
    axes, steps = site.ints(*range(2, rank + 2)), site.ints(*strides)
    for position in itertools.product(*map(range, kernel)):
        starts = [p * d for p, d in zip(position, dilations, strict=True)]
        ends = [s - r or 2**31 for s, r in zip(starts, reach, strict=True)]
        yield site.add("Slice", [data, site.ints(*starts), site.ints(*ends), axes, steps])


def _pads(
    site: _Site, attributes: dict[str, Any], reach: Sequence[int], strides: Sequence[int]
) -> list[int]:
    kind = attributes.get("auto_pad", b"NOTSET").decode()
    if kind in ("NOTSET", "VALID"):
        return list(attributes.get("pads", [0] * 2 * len(reach))) if kind == "NOTSET" else []
    before, after = [], []
    for size, stride, far in zip(site.shape[2:], strides, reach, strict=True):
        if size is None and stride > 1:
            raise _refused(site, "steps over an axis of unknown size")
        covered = ((size or 1) - 1) // stride * stride if stride > 1 else (size or 1) - 1
        total = max(covered + far + 1 - (size or 1), 0)
        small = total // 2 if kind == "SAME_UPPER" else total - total // 2
        before.append(small)
        after.append(total - small)
    return before + after


def _refused(site: _Site, what: str) -> ConversionError:
    return ConversionError(
        f"{site.at_layer}operation {site.node.name!r}: a float64 {site.node.op_type} with {what} "
        "has no form that ONNX Runtime's CPU computes; give the layer dtype float32"
    )


_LOWERINGS = {"Conv": _convolution, "AveragePool": _average}
