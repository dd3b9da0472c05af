"""TensorFlow operators that tf2onnx has no conversion for, or a wrong one: one file for each.

In tf2onnx's own form: a module holds ``TF_OPS``, the operators' names, and
``convert(graph, node, name, args)``, which replaces the node of a ``tf2onnx.graph.Graph``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from onnxnorm.tf_ops import (
    bucketize,
    complex_parts,
    conv3d,
    conv_transpose,
    dense_bincount,
    einsum,
    equal,
    erfc,
    expm1,
    extract_image_patches,
    fused_batch_norm,
    lookup_table_find,
    resize,
    rfft,
    select,
    separable_resize,
    sparse_mat_mul,
    split_v,
)

Handler = Callable[[Any, Any, str, Any], None]

_MODULES = (
    bucketize,
    complex_parts,
    conv3d,
    conv_transpose,
    dense_bincount,
    einsum,
    equal,
    erfc,
    expm1,
    extract_image_patches,
    fused_batch_norm,
    resize,
    rfft,
    select,
    separable_resize,
    sparse_mat_mul,
    split_v,
)

HANDLERS: Mapping[str, Handler] = MappingProxyType(
    {op: module.convert for module in _MODULES for op in module.TF_OPS}
)

# These are given the contents of the lookup tables as `args`.
TABLE_HANDLERS: Mapping[str, Handler] = MappingProxyType(
    dict.fromkeys(lookup_table_find.TF_OPS, lookup_table_find.convert)
)
