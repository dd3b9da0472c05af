"""Special values: the function bodies agree with the float64 oracle wherever squares are held.

A body computes in its stash type: float32 holds squares of values up to 1.8e19, and squares of
greater ones are infinite, so that these count as nothing. The kernels on the CPU have double there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from onnxnorm.opset import OPERATORS, function
from tests.custom_ops.cases import GROUP, INSTANCE
from tests.custom_ops.nodes import model, reference
from tests.custom_ops.special_values import BEYOND_FLOAT32, NODES, assert_agrees, inputs_of

ELEMENTS = ("float32", "float16", "bfloat16", "float64")


def results(way: str, node: str, element: str, stash_type: int, without: tuple[str, ...]) -> Any:
    """What the body computes of each input, and the oracle."""
    operator, given = NODES[node]
    over_channels = operator in (GROUP, INSTANCE)
    shape, axes = ((4, 16, 5), (1,)) if over_channels else ((20, 60), (1,))
    # All of them: onnx.reference does not know the defaults of those that an If refers to.
    defaults = {k: v for k, v in OPERATORS[operator].attributes.items() if v is not None}
    attributes: dict[str, Any] = {**defaults, **given, "epsilon": 1e-3, "stash_type": stash_type}
    attributes |= {"axis": 1} if over_channels else {"axes": [1]}
    for names, inputs in inputs_of(node, shape, axes, element, without):
        proto = model(operator, tuple(v.shape for v in inputs), element, **attributes)
        proto.functions.append(function(OPERATORS[operator], 17))
        feeds = dict(zip(("X", "scale", "bias"), inputs, strict=True))
        runner: Any = ReferenceEvaluator(proto) if way == "reference" else None
        if way == "runtime":
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            runner = onnxruntime.InferenceSession(
                proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        with np.errstate(all="ignore"):
            (y,) = runner.run(None, feeds)
        yield str(names), y, reference(operator, *inputs, element=element, **attributes)


@pytest.mark.parametrize("way", ["runtime", "reference"])
@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("node", NODES)
def test_bodies(node: str, element: str, way: str) -> None:
    if way == "reference" and element == "bfloat16":
        pytest.skip("onnx.reference cuts bfloat16 off")
    without = BEYOND_FLOAT32 if element in ("float32", "bfloat16") else ()
    stash_type = 11 if element == "float64" else 1
    for names, y, expected in results(way, node, element, stash_type, without):
        assert_agrees(y, expected, element, names)


@pytest.mark.parametrize("element", ["float32", "bfloat16"])
@pytest.mark.parametrize("node", NODES)
def test_a_body_that_computes_in_double_holds_all_squares(node: str, element: str) -> None:
    for names, y, expected in results("runtime", node, element, 11, ()):
        assert_agrees(y, expected, element, names)
