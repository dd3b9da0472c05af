"""Proof that an ONNX file computes what its Keras model computes.

Three parties get the same inputs: a float64 oracle, Keras, and ONNX Runtime.
"""

from onnxnorm.parity.comparison import Criterion, Errors, OutputRecord, compare
from onnxnorm.parity.report import Report
from onnxnorm.parity.verification import verify

__all__ = ["Criterion", "Errors", "OutputRecord", "Report", "compare", "verify"]
