"""Which Loops become Scans, what leaves their steps, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import onnxruntime
import pytest

from onnxnorm.graph.nodes import subgraphs
from onnxnorm.graph.scan import make_scans
from onnxnorm.opset import DOMAIN, OPERATORS, function

# A step of a recurrent layer: h = tanh(norm(x·W + b) + h·U).
STEP = """
      count = Add (t, one)
      x_t = Gather <axis = 0> (x, t)
      product = MatMul (x_t, W)
      sum = Add (product, b)
      normed = onnxnorm.LayerNormalization <axes = [1], epsilon = 0.001> (sum, scale, b)
      recurrent = MatMul (h, U)
      both = Add (normed, recurrent)
      next = Tanh (both)
      y_t = Identity (next)
      count_float = Cast <to = 1> (count)
      limit = Cast <to = 1> (length)
      on = Less (count_float, limit)
"""


def model(
    *changes: tuple[str, str],
    x: str = "float[T,N,3]",
    h0: str = "float[N,4]",
    length: str = "Gather <axis = 0> (sizes, zero_index)",
    trip_count: str = "",
    start: str = "zero",
) -> onnx.ModelProto:
    """A recurrent layer as tf2onnx writes it, with replacements in the text of its step."""
    step = STEP
    for old, new in changes:
        assert old in step
        step = step.replace(old, new)
    proto = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 18, "{DOMAIN}" : 1]>'
        f"m ({x} x, {h0} h0, float[T2,N,3] other) => (float[M,4] last, float[T3,N,4] y)"
        "  <int32 zero = {0}, int64 zero_index = {0}, int32 one = {1}, int32 two = {2},"
        "   float[3,4] W = {1, 2, -3, 0.5, -1, 2, 1, 0, 0.5, 1, -1, 2},"
        "   float[4,4] U = {1, 0, 0, -1, 0, 1, 0, 0, 0.5, 0, 1, 0, 0, 0, 2, 1},"
        "   float[4] b = {0.1, -0.2, 0.3, 0}, float[4] scale = {1, 2, 1, 0.5}> {"
        "  sizes = Shape (x)"
        "  other_sizes = Shape (other)"
        f"  length = {length}"
        "  zero_float = Cast <to = 1> (zero)"
        "  length_float = Cast <to = 1> (length)"
        "  go = Less (zero_float, length_float)"
        f"  counted, last, y = Loop ({trip_count}, go, {start}, h0) <body = step"
        "    (int64 i, bool c, int32 t, float[R,4] h)"
        "    => (bool on, int32 count, float[R,4] next, float[R,4] y_t) {"
        f"{step}"
        "    }>"
        "}"
    )
    proto.functions.append(function(OPERATORS["LayerNormalization"], 18))
    return proto


def run(proto: onnx.ModelProto, steps: int, rows: int = 2) -> list[np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = random.normal(size=(steps, 2, 3)).astype(np.float32)
    given = {"x": x, "other": x[::-1], "h0": random.normal(size=(rows, 4)).astype(np.float32)}
    outputs: list[np.ndarray[Any, Any]] = session.run(None, given)
    return outputs


def operators(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


HOISTED = ["MatMul", "Add", "LayerNormalization", "Scan"]
INSIDE = ["MatMul", "Add", "Tanh", "Identity"]
BOTH = ("x_t = Gather", "o_t = Gather <axis = 0> (other, t)\n x_t = Gather")

MADE = {
    "dynamic": (model(), HOISTED),
    "static": (model(x="float[3,N,3]"), HOISTED),
    "length as a constant": (model(x="float[1,N,3]", length="Identity (one)"), HOISTED),
    "trip count": (model(trip_count="length"), HOISTED),
    "another condition": (
        model(
            ("on = Less (count_float, limit)", "below = Less (count_float, limit)"
             " i_float = Cast <to = 1> (i) early = Less (i_float, limit) on = And (early, below)"),
            trip_count="length",
        ),
        HOISTED,
    ),
    "no condition": (
        model(("on = Less (count_float, limit)", "on = Identity (c)"), trip_count="length"),
        HOISTED,
    ),
    "the norm of what states enter": (
        model(
            ("normed = onnxnorm.LayerNormalization <axes = [1], epsilon = 0.001> (sum, scale, b)",
             ""),
            ("Add (normed, recurrent)", "Add (sum, recurrent)"),
            ("Tanh (both)",
             "onnxnorm.LayerNormalization <axes = [1], epsilon = 0.001> (both, scale, b)"),
        ),
        ["MatMul", "Add", "Scan"],
    ),
    "the count is read": (
        model(("next = Tanh (both)", "t_float = Cast <to = 1> (t) next = Div (both, t_float)")),
        HOISTED,
    ),
    "the slice is read too": (
        model(("next = Tanh (both)", "m = ReduceMax <keepdims = 1> (x_t) next = Mul (both, m)")),
        HOISTED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_a_loop_over_whole_sequences_becomes_a_scan(name: str) -> None:
    before, expected = MADE[name]
    after = onnx.ModelProto()
    after.CopyFrom(before)
    make_scans(after)
    onnx.checker.check_model(after, full_check=True)
    assert operators(after)[-len(expected) :] == expected
    assert "Loop" not in operators(after)
    steps = 1 if "constant" in name else 3
    for one, other in zip(run(after, steps), run(before, steps), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_what_no_state_enters_leaves_the_step() -> None:
    after = model()
    make_scans(after)
    (step,) = subgraphs(after.graph.node[-1])
    assert [node.op_type for node in step.node] == INSIDE
    norm = next(node for node in after.graph.node if node.domain == DOMAIN)
    assert onnx.helper.get_node_attr_value(norm, "axes") == [-1]


@pytest.mark.parametrize("rows", [1, 2])
def test_a_state_that_the_first_step_repeats(rows: int) -> None:
    before, after = model(h0="float[M,4]"), model(h0="float[M,4]")
    make_scans(after)
    assert operators(after)[-1] == "Scan"
    for one, other in zip(run(after, 3, rows), run(before, 3, rows), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_float16_product_stays_in_the_step() -> None:
    after = model()
    (body,) = subgraphs(after.graph.node[-1])
    for value in (*after.graph.input, *after.graph.output, *body.input, *body.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for tensor in after.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(half, tensor.name))
    onnx.checker.check_model(after, full_check=True)
    make_scans(after)
    assert operators(after)[-2:] == ["Less", "Scan"]


KEPT = {
    "another length": model(length="Gather <axis = 0> (other_sizes, zero_index)"),
    "a shorter one": model(x="float[3,N,3]", length="Identity (two)"),
    "the first slice left out": model(start="one"),
    "every other slice": model(("Add (t, one)", "Add (t, two)")),
    "the next slice": model(("Gather <axis = 0> (x, t)", "Gather <axis = 0> (x, count)")),
    "a sequence of another length": model(
        BOTH, ("next = Tanh (both)", "o = ReduceMax <keepdims = 1> (o_t) next = Mul (both, o)")
    ),
    "a sequence that no result needs": model(("MatMul (x_t, W)", "MatMul (h, U)")),
    "a condition on the data": model(
        ("Less (count_float, limit)", "Less (top, limit)"),
        ("count_float = Cast <to = 1> (count)", "top = ReduceMax <keepdims = 0> (h)"),
    ),
    "the iteration is read": model(
        ("next = Tanh (both)", "i_float = Cast <to = 1> (i) next = Add (both, i_float)")
    ),
    "a growing state": model(
        ("next = Tanh (both)", "next = Concat <axis = 0> (h, both)"),
        ("Identity (next)", "Tanh (both)"),
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_any_other_loop_stays(name: str) -> None:
    kept = KEPT[name]
    before = kept.SerializeToString(deterministic=True)
    make_scans(kept)
    assert kept.SerializeToString(deterministic=True) == before
