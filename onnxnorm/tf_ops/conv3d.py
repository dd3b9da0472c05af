"""``Conv3D`` with groups: tf2onnx counts them for Conv1D and Conv2D only."""

from __future__ import annotations

from typing import Any

TF_OPS = ("Conv3D",)


def convert(graph: Any, node: Any, name: str, args: Any) -> None:
    """Conv3D → Conv with as many groups as the kernel's input channels fit into those of x."""
    from tf2onnx.onnx_opset.nn import ConvOp

    channels_axis = -1 if node.get_attr_value("data_format") == b"NDHWC" else 1
    channels = graph.get_shape(node.input[0])[channels_axis]
    kernel_channels = graph.get_shape(node.input[1])[-2]
    ConvOp.version_13(graph, node)
    node.set_attr("group", channels // kernel_channels)
