"""What ONNX Runtime says, without where in its source it says so."""

from __future__ import annotations

import pytest

from onnxnorm.runtime_errors import one_line

RUNNING = "[ONNXRuntimeError] : {} : Non-zero status code returned while running {} node. Name:'{}'"


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (
            RUNNING.format("1 : FAIL", "Reshape", "r1")
            + " Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/tensor/"
            "reshape_helper.h:84 onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::"
            "TensorShape&, bool) size != 0 && (input_shape_size % size) == 0 was false. The input "
            "tensor cannot be reshaped to the requested shape.\n",
            "node 'r1' (Reshape): The input tensor cannot be reshaped to the requested shape.",
        ),
        (
            RUNNING.format("1 : FAIL", "MatMul", "")
            + " Status Message: matmul_helper.h:164 Compute MatMul dimension mismatch",
            "a node MatMul without name: MatMul dimension mismatch",
        ),
        (
            RUNNING.format("6 : RUNTIME_EXCEPTION", "ReduceMax", "m") + " Status Message: ",
            "node 'm' (ReduceMax)",
        ),
        (
            "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: x for "
            "the following indices\n index: 2 Got: 8 Expected: 4\n Please fix either the inputs",
            "Got invalid dimensions for input: x for the following indices index: 2 Got: 8 "
            "Expected: 4",
        ),
        ("", "RuntimeError"),
    ],
)
def test_one_line(raw: str, told: str) -> None:
    assert one_line(RuntimeError(raw)) == told
