"""The optimized form by onnx.reference with the float64 oracles, which know no function body."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from onnxnorm.graph.nodes import attributes_of
from onnxnorm.opset import DOMAIN, OPERATOR_NAMES, OPERATORS, RESIDUAL
from onnxnorm.opset.activations import ACTIVATIONS

Array = npt.NDArray[Any]


def optimized_reference(
    operator: str, x: Array, scale: Array, bias: Array, residual: Array | None, **attributes: Any
) -> Array:
    """A node of the optimized form in float64, rounded to the type of x at the end."""
    activation = attributes.pop("activation", b"").decode()
    parameters = attributes.pop("activation_params", ())
    before = attributes.pop("residual_stage", b"output") == b"input"
    data = x + residual if before and residual is not None else x
    y = OPERATORS[operator].reference(data, scale, bias, **attributes)
    if residual is not None and not before:
        y = y + residual.astype(np.float64)
    if activation:
        y = ACTIVATIONS[activation](y, *parameters)
    return np.asarray(y).astype(x.dtype)


def _operator(name: str) -> type[OpRun]:
    def run(self: Any, x: Any, scale: Any, bias: Any, residual: Any = None, **_: Any) -> Any:
        attributes = attributes_of(self.onnx_node)
        operator = name.removeprefix(RESIDUAL)
        return (optimized_reference(operator, x, scale, bias, residual, **attributes),)

    return type(name, (OpRun,), {"op_domain": DOMAIN, "_run": run})


def evaluate(model: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Array]:
    """The model's outputs; its normalization nodes are computed by the oracles, not by bodies."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    kept = [function for function in bare.functions if function.domain != DOMAIN]
    del bare.functions[:]
    bare.functions.extend(kept)
    runner = ReferenceEvaluator(bare, new_ops=[_operator(name) for name in OPERATOR_NAMES])
    return dict(zip(runner.output_names, runner.run(None, feeds), strict=True))
