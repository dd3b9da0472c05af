"""``FusedBatchNormV3`` with statistics of the batch: a BatchNormalization called in training."""

from __future__ import annotations

from typing import Any

TF_OPS = ("FusedBatchNormV3",)


def convert(graph: Any, node: Any, name: str, args: Any) -> None:
    """As tf2onnx converts it, which mistakes the factor of the moving averages for more.

    The factor changes what is stored for later, and never the output.
    """
    from tf2onnx.onnx_opset.nn import BatchNorm

    node.set_attr("exponential_avg_factor", 1.0)
    BatchNorm.version_9(graph, node)
