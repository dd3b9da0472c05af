"""``Conv2DBackpropInput``, ``Conv3DBackpropInputV2``: transposed convolutions."""

from __future__ import annotations

from typing import Any

TF_OPS = ("Conv2DBackpropInput", "Conv3DBackpropInputV2")


def convert(graph: Any, node: Any, name: str, args: Any) -> None:
    """As tf2onnx converts them, whose negative pads, no valid ONNX, become ``output_padding``.

    A size beyond what strides and kernel give is wanted at the end of the axis.
    """
    from tf2onnx.onnx_opset.nn import ConvTranspose

    ConvTranspose.version_11(graph, node)
    pads = node.get_attr_value("pads")
    if pads is None or min(pads) >= 0:
        return
    spatial = len(pads) // 2
    totals = [pads[i] + pads[i + spatial] for i in range(spatial)]
    starts = [max(total, 0) // 2 for total in totals]
    ends = [max(total, 0) - start for total, start in zip(totals, starts, strict=True)]
    node.set_attr("pads", starts + ends)
    node.set_attr("output_padding", [max(-total, 0) for total in totals])
