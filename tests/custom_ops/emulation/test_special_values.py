"""Special values: the CUDA kernels agree with the float64 oracle wherever float32 holds squares."""

from __future__ import annotations

from typing import Any

import pytest

from tests.custom_ops.cases import GROUP, INSTANCE
from tests.custom_ops.nodes import reference
from tests.custom_ops.special_values import BEYOND_FLOAT32, NODES, assert_agrees, inputs_of
from tools.emulated import ELEMENTS, Machine, run

#: Small, so that few elements make many chunks.
SMALL = Machine(multiprocessors=4, shared_per_block=40 << 10)

#: By the kernels that take them: the shape of X, and the axes of the statistics.
OVER_AXES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "rows_in_registers": ((20, 64), (1,)),
    "rows_in_shared": ((16, 8200), (1,)),
    "rows_in_chunks": ((2, 40_000), (1,)),
    "columns_in_shared": ((2, 100, 10), (1,)),
    "columns_in_chunks": ((2, 2000, 12), (1,)),
    "strided": ((3, 4, 5, 6, 7), (0, 2, 4)),
}
#: The same, and the axis of the channels.
OVER_CHANNELS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "rows_in_registers": ((4, 16, 5, 7), (1,)),
    "columns_in_shared": ((4, 60, 16), (2,)),
}
CASES = [
    (node, method)
    for node, (operator, _) in NODES.items()
    for method in (OVER_CHANNELS if operator in (GROUP, INSTANCE) else OVER_AXES)
]


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize(("node", "method"), CASES)
def test_kernels(node: str, method: str, element: str) -> None:
    operator, given = NODES[node]
    layouts = OVER_CHANNELS if operator in (GROUP, INSTANCE) else OVER_AXES
    shape, axes = layouts[method]
    attributes: dict[str, Any] = {**given, "epsilon": 1e-3}
    if operator in (GROUP, INSTANCE):
        attributes["axis"] = axes[0]
    else:
        attributes["axes"] = list(axes)
    without = BEYOND_FLOAT32 if element in ("float32", "bfloat16") else ()
    for names, inputs in inputs_of(node, shape, axes, element, without):
        y, launch = run(operator, *inputs, element, machine=SMALL, **attributes)
        if element == "float32":
            assert launch.method == method
        expected = reference(operator, *inputs, element=element, **attributes)
        assert_agrees(y, expected, element, str(names))
