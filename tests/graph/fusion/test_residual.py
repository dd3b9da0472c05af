"""norm → add, norm → add → activation, and add → norm; and when the addition has to stay."""

from __future__ import annotations

import onnx
import pytest

from onnxnorm.graph.nodes import attributes_of
from tests.graph.fusion.graphs import assert_same, fused, operators, parsed

NORM = "[norm] v = NORM (x, s, b)\n"
TWO = "float[N,6,8] x, float[N,6,8] r"
FULL = ", ".join(["0.5"] * 48)

# Statements; the operators afterwards; the norm's inputs and attributes that show what it took in.
TAKEN = {
    "add": (NORM + "y = Add (v, r)", ["x", "s", "b", "r"], {}),
    "add, swapped": (NORM + "y = Add (r, v)", ["x", "s", "b", "r"], {}),
    "add and relu": (
        NORM + "a = Add (v, r)\n y = Relu (a)",
        ["x", "s", "b", "r"],
        {"activation": b"Relu"},
    ),
    "add and silu": (
        NORM + "a = Add (v, r)\n g = Sigmoid (a)\n y = Mul (g, a)",
        ["x", "s", "b", "r"],
        {"activation": b"Swish", "activation_params": [1.0]},
    ),
    "the norm's own input": (NORM + "y = Add (x, v)", ["x", "s", "b", "x"], {}),
    "sum before": (
        "a = Add (x, r)\n [norm] y = NORM (a, s, b)",
        ["x", "s", "b", "r"],
        {"residual_stage": b"input"},
    ),
    "sum before, relu behind": (
        "a = Add (x, r)\n [norm] v = NORM (a, s, b)\n y = Relu (v)",
        ["x", "s", "b", "r"],
        {"residual_stage": b"input", "activation": b"Relu"},
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name: str) -> None:
    statements, inputs, attributes = TAKEN[name]
    before = parsed(statements, inputs=TWO)
    after, _ = fused(before)
    assert operators(after) == "ResidualLayerNormalization"
    node = after.graph.node[0]
    assert list(node.input) == inputs
    assert attributes_of(node).items() >= attributes.items()
    assert_same(before, after)


def test_a_residual_that_is_made_later() -> None:
    before = parsed(NORM + "h = Exp (x)\n y = Add (v, h)")
    after, _ = fused(before)
    assert operators(after) == "Exp ResidualLayerNormalization"
    assert_same(before, after)


def test_two_norms_the_later_takes_in_the_earlier() -> None:
    before = parsed(
        "[first] u = NORM (x, s, b)\n h = Exp (r)\n [second] v = NORM (h, s, b)\n"
        "a = Add (v, u)\n y = Relu (a)",
        inputs=TWO,
    )
    after, fusions = fused(before)
    assert operators(after) == "LayerNormalization Exp ResidualLayerNormalization"
    assert fusions["second"].fused == ("Add 'a'", "Relu")
    assert fusions["first"].fused == ()
    assert fusions["first"].not_fused == (
        "its result is the residual of ResidualLayerNormalization 'second'",
    )
    assert_same(before, after)


def test_two_norms_where_the_later_is_read_elsewhere() -> None:
    before = parsed(
        "[first] u = NORM (x, s, b)\n [second] v = NORM (r, s, b)\n y = Add (v, u)\n z = Exp (v)",
        inputs=TWO,
        outputs="float[N,6,8] y, float[N,6,8] z",
    )
    after, fusions = fused(before)
    assert fusions["first"].fused == ("Add 'y'",)
    assert fusions["second"].not_fused == ("Add 'y': 'v' is read by Exp 'z' too",)
    assert_same(before, after)


def test_a_sum_that_goes_on() -> None:
    """The residual stream of a transformer: the addition goes into the norm before it."""
    before = parsed(
        "a = Add (x, r)\n [first] u = NORM (a, s, b)\n m = Exp (u)\n c = Add (m, a)\n"
        "[second] v = NORM (c, s, b)\n y = Add (v, a)",
        inputs=TWO,
    )
    after, fusions = fused(before)
    assert operators(after) == "Add LayerNormalization Exp Add ResidualLayerNormalization"
    assert "'a' is read by" in fusions["first"].not_fused[0]
    assert fusions["second"].fused == ("Add 'y'",)
    assert_same(before, after)


# Statements with a norm that has to leave an addition where it is; inputs; the reason.
STAYS = {
    "vector": (
        NORM + "y = Add (v, w)",
        "float[N,6,8] x, float[8] w",
        "broadcasts (N, 6, 8) and (8)",
    ),
    "size 1": (NORM + "y = Add (v, w)", "float[N,6,8] x, float[N,1,8] w", "broadcasts"),
    "size 1 against an unknown one": (
        NORM + "y = Add (v, w)",
        "float[N,6,8] x, float[1,6,8] w",
        "broadcasts (N, 6, 8) and (1, 6, 8)",
    ),
    "the norm repeated": (NORM + "y = Add (w, v)", "float[1,6,8] x, float[4,6,8] w", "broadcasts"),
    "higher rank": (NORM + "y = Add (v, w)", "float[N,6,8] x, float[2,N,6,8] w", "broadcasts"),
    "vector before": (
        "a = Add (x, w)\n [norm] y = NORM (a, s, b)",
        "float[N,6,8] x, float[8] w",
        "Add 'a' before it: it broadcasts",
    ),
    "twice itself": (NORM + "y = Add (v, v)", "float[N,6,8] x", "neither"),
    "two readers": (
        NORM + "h = Exp (v)\n y = Add (v, h)",
        "float[N,6,8] x",
        "'v' is read by Exp 'h' too",
    ),
    "sum is an output": (
        "a = Add (x, w)\n [norm] y = NORM (a, s, b)",
        "float[N,6,8] x, float[N,6,8] w",
        "'a' is an output of the graph",
    ),
    "sum read twice": (
        "a = Add (x, w)\n [norm] v = NORM (a, s, b)\n y = Concat <axis = 0> (v, a)",
        "float[N,6,8] x, float[N,6,8] w",
        "'a' is read by Concat 'y' too",
    ),
    "sum is scale too": (
        "a = Add (x, w)\n [norm] y = NORM (a, a, b)",
        "float[6,8] x, float[6,8] w",
        "'a' is a parameter of the node too",
    ),
    "another sum behind": (
        NORM + "u = Relu (v)\n y = Add (u, w)",
        "float[N,6,8] x, float[N,6,8] w",
        None,
    ),
}


@pytest.mark.parametrize("name", STAYS)
def test_stays(name: str) -> None:
    statements, inputs, reason = STAYS[name]
    outputs = "float[N,6,8] y" + (", float[N,6,8] a" if name == "sum is an output" else "")
    before = parsed(statements, inputs=inputs, outputs=outputs)
    after, fusions = fused(before)
    assert "Add" in operators(after)
    if reason is not None:
        assert reason in " ".join(fusions["norm"].not_fused), fusions["norm"]


def test_a_constant_of_full_shape_is_taken() -> None:
    before = parsed(
        NORM + "y = Add (v, full)",
        constants=f"float[1,6,8] full = {{{FULL}}}",
        inputs="float[1,6,8] x",
        outputs="float[1,6,8] y",
    )
    after, _ = fused(before)
    assert list(after.graph.node[0].input) == ["x", "s", "b", "full"]
    assert_same(before, after)


def test_unknown_sizes_are_left_to_the_kernel() -> None:
    before = parsed(NORM + "y = Add (v, r)", inputs="float[N,M,8] x, float[K,L,8] r")
    after, _ = fused(before)
    assert operators(after) == "ResidualLayerNormalization"


def test_a_constant_against_an_unknown_rank_stays() -> None:
    before = parsed("q = user.block (x)\n [norm] v = NORM (q, s, b)\n y = Add (v, s)")
    before.opset_import.append(onnx.helper.make_opsetid("user", 1))
    after, fusions = fused(before)
    assert operators(after) == "block LayerNormalization Add"
    assert "a constant, of unknown shape" in fusions["norm"].not_fused[0]


def test_group_norm_takes_no_sum_before_it() -> None:
    before = parsed("a = Add (x, r)\n [norm] y = NORM (a, s, b)", inputs=TWO)
    before.graph.node[1].op_type = "InstanceNormalization"
    del before.graph.node[1].attribute[:]
    assert operators(fused(before)[0]) == "Add InstanceNormalization"
