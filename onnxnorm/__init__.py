"""Keras normalization layers as single, fused, verified ONNX nodes.

The names below are loaded on first use: importing the package needs neither TensorFlow nor
ONNX Runtime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from onnxnorm.errors import (
    ArgumentError,
    ConversionError,
    MissingDependencyError,
    ModelFileError,
    OnnxNormError,
    RuntimeLibraryError,
    VerificationError,
)
from onnxnorm.spec import NormSpec

if TYPE_CHECKING:
    from onnxnorm.conversion import Conversion as Conversion
    from onnxnorm.conversion import convert as convert
    from onnxnorm.exporters import hooks as hooks
    from onnxnorm.frameworks import Formula as Formula
    from onnxnorm.frameworks import adapter as adapter
    from onnxnorm.graph.fusion import optimize as optimize
    from onnxnorm.graph.inspection import inspect as inspect
    from onnxnorm.graph.records import LayerRecord as LayerRecord
    from onnxnorm.parity import verify as verify
    from onnxnorm.runtime import InferenceSession as InferenceSession
    from onnxnorm.runtime import library_path as library_path
    from onnxnorm.runtime import register as register

__version__ = "0.1.0"

_HOME = {
    "Conversion": "onnxnorm.conversion",
    "Formula": "onnxnorm.frameworks",
    "InferenceSession": "onnxnorm.runtime",
    "LayerRecord": "onnxnorm.graph.records",
    "adapter": "onnxnorm.frameworks",
    "convert": "onnxnorm.conversion",
    "hooks": "onnxnorm.exporters",
    "inspect": "onnxnorm.graph.inspection",
    "library_path": "onnxnorm.runtime",
    "optimize": "onnxnorm.graph.fusion",
    "register": "onnxnorm.runtime",
    "verify": "onnxnorm.parity",
}

__all__ = [
    "ArgumentError",
    "ConversionError",
    "MissingDependencyError",
    "ModelFileError",
    "NormSpec",
    "OnnxNormError",
    "RuntimeLibraryError",
    "VerificationError",
    *_HOME,
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'onnxnorm' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
