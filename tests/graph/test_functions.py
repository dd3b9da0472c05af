"""Which function bodies an optimized model has, and whether it runs without the native library."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
from onnx import helper

import onnxnorm
from onnxnorm.graph.functions import needs_library
from onnxnorm.graph.renamed import operator_name
from onnxnorm.opset import OPERATORS, function
from onnxnorm.parity import engine
from tests.graph.fusion.graphs import parsed

NORMS = """
    [plain] v = NORM (x, s, b)
    h = Exp (v)
    [other] w = onnxnorm.RMSNormalization <axes = [-1]> (h, s, b)
    y = ACTIVATION (w)
"""


def two_operators(activation: str) -> onnx.ModelProto:
    model = parsed(NORMS.replace("ACTIVATION", activation))
    model.functions.append(function(OPERATORS["RMSNormalization"], 18))
    return model


def bodies(model: onnx.ModelProto) -> dict[str, onnx.FunctionProto]:
    return {function.name: function for function in model.functions}


def test_where_nothing_is_fused_nothing_changes() -> None:
    before = two_operators("Exp")
    assert onnxnorm.optimize(before) == before


def test_an_operator_that_took_in_nothing_keeps_its_body() -> None:
    before = two_operators("Relu")
    after = onnxnorm.optimize(before)
    assert bodies(after)["LayerNormalization"] == bodies(before)["LayerNormalization"]
    assert bodies(after)["RMSNormalization"] != bodies(before)["RMSNormalization"]
    assert after.graph.node[0] == before.graph.node[0]
    assert not needs_library(after)


def test_a_node_inside_another_function_keeps_its_body() -> None:
    before = parsed("[norm] v = NORM (x, s, b)\n r = Add (v, x)\n y = user.block (r, s, b)")
    before.opset_import.append(helper.make_opsetid("user", 1))
    block = '<domain: "user", opset_import: ["onnxnorm" : 1]> block (x, s, b) => (y) '
    inner = (
        "{ y = onnxnorm.LayerNormalization <axes = [-1], epsilon = 0.1, stash_type = 1> (x, s, b) }"
    )
    before.functions.append(onnx.parser.parse_function(block + inner))
    after = onnxnorm.optimize(before)
    assert set(bodies(after)) == {"block", "LayerNormalization", "ResidualLayerNormalization"}
    assert not needs_library(after)


def test_an_older_optimized_file_gets_bodies() -> None:
    before = parsed("[norm] y = NORM (x, s, b, x)")
    del before.functions[:]
    before.ir_version = 8
    assert needs_library(before)
    after = onnxnorm.optimize(before)
    assert [node.op_type for node in after.graph.node] == ["ResidualLayerNormalization"]
    assert (list(bodies(after)), after.ir_version) == (["ResidualLayerNormalization"], 9)
    assert not needs_library(after)
    onnx.checker.check_model(after, full_check=True)
    assert onnxnorm.optimize(after) == after


def test_a_body_that_does_not_compute_its_nodes_goes() -> None:
    """ONNX Runtime ignores in a function an attribute that only the kernel knows."""
    before = parsed("[norm] y = onnxnorm.InstanceNormalization <channel_block = 2> (x, s, b)")
    before.functions.append(function(OPERATORS["InstanceNormalization"], 18))
    assert needs_library(before)
    after = onnxnorm.optimize(before)
    assert not after.functions
    assert needs_library(after)
    assert not onnxnorm.inspect(before).nodes[0].has_function


def another() -> onnx.FunctionProto:
    body = function(OPERATORS["LayerNormalization"], 18)
    del body.node[:]
    body.node.append(helper.make_node("Identity", ["X"], ["Y"]))
    return body


def with_a_changed_constant() -> onnx.FunctionProto:
    body = function(OPERATORS["LayerNormalization"], 18)
    constants = (a for node in body.node for a in node.attribute if a.name == "value_int")
    next(constants).i += 1
    return body


def with_an_overload() -> onnx.FunctionProto:
    body = function(OPERATORS["LayerNormalization"], 18)
    body.overload = "other"
    return body


@pytest.mark.parametrize("made", [another, with_a_changed_constant, with_an_overload])
def test_a_body_that_is_not_the_operators_goes(made: Callable[[], onnx.FunctionProto]) -> None:
    """Its numbers would come out where there is no library, and the operator's where there is."""
    before = parsed("[norm] y = NORM (x, s, b)")
    del before.functions[:]
    before.functions.append(made())
    assert needs_library(before)
    found = onnxnorm.inspect(before)
    assert not found.nodes[0].has_function
    assert "onnxnorm::LayerNormalization is not the operator's body" in found.problems[-1]
    for source in (before, before.SerializeToString()):
        assert "is not the operator's body" in engine.load(source, None).note
    after = onnxnorm.optimize(before)
    assert engine.load(after, None).note == ""
    assert not needs_library(after)
    assert [operator_name(body) for body in after.functions] == ["LayerNormalization"]
    assert len(after.functions[0].node) > 1


def test_a_body_that_only_another_function_calls_is_looked_at_too() -> None:
    before = parsed("[norm] y = NORM (x, s, b)")
    del before.functions[:]
    imports = before.opset_import
    outer = helper.make_function("f", "F", ["x", "s", "b"], ["y"], before.graph.node, imports)
    before.functions.extend([outer, another()])
    before.graph.node[0].op_type, before.graph.node[0].domain = "F", "f"
    del before.graph.node[0].attribute[:]
    before.opset_import.add(domain="f", version=1)
    assert needs_library(before)
    after = onnxnorm.optimize(before)
    assert [operator_name(body) for body in after.functions] == [None, "LayerNormalization"]


@pytest.mark.parametrize("opset", [13, 14])
def test_operator_sets_without_castlike_have_no_bodies(opset: int) -> None:
    before = parsed("[norm] v = NORM (x, s, b)\n y = Relu (v)")
    del before.functions[:]
    next(o for o in before.opset_import if not o.domain).version = opset
    after = onnxnorm.optimize(before)
    assert not after.functions
    assert needs_library(after)


def test_inspection_agrees() -> None:
    after = onnxnorm.optimize(two_operators("Relu"))
    assert [node.has_function for node in onnxnorm.inspect(after).nodes] == [True, True]
    del after.functions[0]
    assert {node.has_function for node in onnxnorm.inspect(after).nodes} == {True, False}
