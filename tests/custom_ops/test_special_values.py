"""Special values: the kernels on the CPU agree with the float64 oracle on every one of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxnorm.opset.activations import ACTIVATIONS
from tests.custom_ops.cases import GROUP, INSTANCE
from tests.custom_ops.levels import LEVELS, rerun_at
from tests.custom_ops.nodes import ELEMENT_TYPES, reference, run
from tests.custom_ops.special_values import NODES, assert_agrees, inputs_of

#: Shapes of X that the kernels take in different ways, and the axes of the statistics.
OVER_AXES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "tiny rows": ((20, 4), (1,)),
    "short rows": ((20, 70), (1,)),
    "rows": ((20, 5000), (1,)),
    "long rows": ((3, 140_000), (1,)),
    "columns": ((300, 40), (0,)),
    "tiny samples": ((9, 8, 3), (1,)),
    "samples": ((5, 40, 24), (1,)),
    "long columns": ((3, 30_000, 8), (1,)),
    "long runs": ((2, 3, 9, 1500), (1, 3)),
    "any axes": ((3, 4, 5, 6, 7), (0, 2, 4)),
}
#: The same, and the axis of the channels.
OVER_CHANNELS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "channels first": ((4, 32, 5, 7), (1,)),
    "channels first, segments": ((1, 8, 300, 460), (1,)),
    "channels last": ((4, 60, 32), (2,)),
    "channels last, segments": ((2, 9000, 32), (2,)),
    "channels in the middle": ((2, 30, 16, 20), (2,)),
}
CASES = [
    (node, layout)
    for node, (operator, _) in NODES.items()
    for layout in (OVER_CHANNELS if operator in (GROUP, INSTANCE) else OVER_AXES)
]


@pytest.mark.parametrize("epsilon", [1e-3, 0.0])
@pytest.mark.parametrize("element", sorted(ELEMENT_TYPES))
@pytest.mark.parametrize(("node", "layout"), CASES)
def test_kernels(node: str, layout: str, element: str, epsilon: float) -> None:
    operator, given = NODES[node]
    shape, axes = {**OVER_AXES, **OVER_CHANNELS}[layout]
    attributes: dict[str, Any] = {**given, "epsilon": epsilon}
    if operator in (GROUP, INSTANCE):
        attributes["axis"] = axes[0]
    else:
        attributes["axes"] = list(axes)
    for names, inputs in inputs_of(node, shape, axes, element):
        y = run(operator, *inputs, element, **attributes)
        expected = reference(operator, *inputs, element=element, **attributes)
        assert_agrees(y, expected, element, str(names))


FUSED: list[dict[str, Any]] = [
    {},
    {"activation": "Clip", "activation_params": [0.0, float("inf")]},
    *(
        {"activation": name}
        if not activation.parameters
        else {"activation": name, "activation_params": [*activation.parameters.values()]}
        for name, activation in ACTIVATIONS.items()
    ),
]


@pytest.mark.parametrize("stage", ["input", "output"])
@pytest.mark.parametrize("element", sorted(ELEMENT_TYPES))
@pytest.mark.parametrize(("node", "layout"), [("rms", "short rows"), ("layer", "samples")])
def test_residuals_and_activations(node: str, layout: str, element: str, stage: str) -> None:
    operator, given = NODES[node]
    shape, axes = OVER_AXES[layout]
    attributes: dict[str, Any] = {**given, "axes": list(axes), "residual_stage": stage}
    for names, inputs in inputs_of(node, shape, axes, element):
        residual = np.roll(inputs[0], 1, axis=(0, -1))  # beside special groups, others
        for fused in FUSED:
            y = run(operator, *inputs, element, residual=residual, **attributes, **fused)
            all_attributes = {**attributes, **fused}
            expected = reference(operator, *inputs, residual, element, **all_attributes)
            assert_agrees(y, expected, element, f"{names} {fused}")


@pytest.mark.parametrize("level", LEVELS)
def test_instruction_set_levels(level: str) -> None:
    rerun_at(level, __file__, "test_kernels and 0.0 and (float32 or bfloat16)")
