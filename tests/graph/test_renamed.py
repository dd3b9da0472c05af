from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.compose
import onnx.parser
import onnxruntime
import pytest

import onnxnorm
from onnxnorm.graph import renamed
from onnxnorm.opset import OPERATORS, function


def normalization(epsilon: float = 1e-3) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f"""
        <ir_version: 9, opset_import: ["" : 18, "onnxnorm" : 1]>
        part (float[2, 4, 3] x) => (float[2, 4, 3] y) <float[4] s = {{1, 2, 3, 4}},
            float[4] b = {{0, 1, 0, 1}}> {{
            y = onnxnorm.GroupNormalization <num_groups = 2, epsilon = {epsilon}> (x, s, b)
        }}""")
    model.functions.append(function(OPERATORS["GroupNormalization"], 18))
    return model


def joined() -> onnx.ModelProto:
    return onnx.compose.merge_models(
        normalization(), normalization(0.5), [("y", "x")], prefix1="a_", prefix2="b_"
    )


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("opset", [15, 18, 21])
def test_a_body_is_known_whatever_its_names(name: str, opset: int) -> None:
    body = function(OPERATORS[name], opset)
    body.name, body.domain = "other", "elsewhere"
    for node in body.node:
        node.name = f"n_{node.output[0]}"
        for values in (node.input, node.output):
            values[:] = [f"v_{value}" if value else "" for value in values]
    for values in (body.input, body.output):
        values[:] = [f"v_{value}" for value in values]
    assert renamed.operator_name(body) == name
    body.node[-1].op_type = "Identity"
    assert renamed.operator_name(body) is None


def test_joined_files_run_our_operators(tmp_path: Path) -> None:
    model = joined()
    before = {node.op_type for node in model.graph.node}
    assert before == {"a_GroupNormalization", "b_GroupNormalization"}
    optimized = onnxnorm.optimize(model)
    assert [n.op_type for n in optimized.graph.node] == ["GroupNormalization"] * 2
    assert {node.op_type for node in model.graph.node} == before

    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"a_x": x})
    (actual,) = onnxnorm.InferenceSession(model).run(None, {"a_x": x})
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_functions_that_are_the_same_become_one() -> None:
    model = joined()
    assert len(renamed.give_back(model)) == 2
    assert [f.name for f in model.functions] == ["GroupNormalization"]
    onnx.checker.check_model(model, full_check=True)
    assert renamed.give_back(model) == ()


def test_a_name_that_another_body_has_is_not_given_away() -> None:
    model = joined()
    other = onnx.parser.parse_function(
        '<domain: "onnxnorm", opset_import: ["" : 18]> '
        "GroupNormalization (X, scale, bias) => (Y) { Y = Identity (X) }"
    )
    model.functions.append(other)
    before = model.SerializeToString()
    assert renamed.give_back(model) == ()
    assert model.SerializeToString() == before
