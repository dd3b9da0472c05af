"""States that no step changes leave their loop, and all others stay."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx.reference import ReferenceEvaluator

from onnxnorm.graph.invariants import free_invariant_states
from onnxnorm.graph.nodes import subgraphs


def model(returned: str = "y, all", body_end: str = "go, w, sum, copy") -> onnx.ModelProto:
    outputs = ", ".join(
        f"float[{'steps_run, N' if name == 'all' else 'N'}] {name}" for name in returned.split(", ")
    )
    inner_outputs = ", ".join(
        f"{'bool' if name == 'go' else 'float[N]'} {name}" for name in body_end.split(", ")
    )
    return onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 18]>'
        f"m (float[N] x, float[N] k, int64 steps) => ({outputs}) {{"
        "  yes = Constant <value = bool {1}> ()"
        "  after, y, all = Loop (steps, yes, k, x) <body = b"
        f"    (int64 i, bool c, float[N] w, float[N] s) => ({inner_outputs}) {{"
        "      go = Identity (c)"
        "      sum = Add (s, w)"
        "      copy = Mul (sum, w)"
        "    }>"
        "  twice = Add (after, after)"
        "}"
    )


@pytest.mark.parametrize("returned", ["y, all", "twice, y"])
@pytest.mark.parametrize("steps", [1, 3])
def test_an_unchanged_state_becomes_an_outer_value(returned: str, steps: int) -> None:
    before, after = model(returned), model(returned)
    free_invariant_states(after.graph)
    loop = next(node for node in after.graph.node if node.op_type == "Loop")
    (body,) = subgraphs(loop)
    assert list(loop.input) == ["steps", "yes", "x"]
    assert list(loop.output) == ["y", "all"]
    assert [value.name for value in body.input] == ["i", "c", "s"]
    assert [value.name for value in body.output] == ["go", "sum", "copy"]
    onnx.checker.check_model(after, full_check=True)
    given = {
        "x": np.array([1, 2], np.float32),
        "k": np.array([3, 4], np.float32),
        "steps": np.array(steps, np.int64),
    }
    expected, actual = (ReferenceEvaluator(m).run(None, given) for m in (before, after))
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "kept",
    [
        model(returned="after, y"),  # it is an output of the graph
        model(body_end="go, w, sum, w"),  # its value is collected in each step
        model(body_end="go, sum, w, copy"),  # the states change places
    ],
    ids=["output", "collected", "exchanged"],
)
def test_what_leaves_the_loop_stays_a_state(kept: onnx.ModelProto) -> None:
    before = kept.SerializeToString(deterministic=True)
    free_invariant_states(kept.graph)
    assert kept.SerializeToString(deterministic=True) == before
