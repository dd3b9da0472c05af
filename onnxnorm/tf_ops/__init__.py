"""TensorFlow operators that tf2onnx has no conversion for: one file each, in tf2onnx's own form.

A module holds ``TF_OP``, the operator's name, and ``convert(graph, node, name, args)``, which
replaces the node of a ``tf2onnx.graph.Graph``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from onnxnorm.tf_ops import erfc, expm1

HANDLERS: Mapping[str, Callable[[Any, Any, str, Any], None]] = MappingProxyType(
    {module.TF_OP: module.convert for module in (erfc, expm1)}
)
