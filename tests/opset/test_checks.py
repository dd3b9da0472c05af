"""Nodes that are not what the domain says are refused wherever a model is read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import onnxnorm
from onnxnorm.cli import main
from onnxnorm.errors import ModelFileError
from onnxnorm.opset import DOMAIN, OPERATORS, checks
from tests.custom_ops.nodes import model, reference

LAYER, GROUP = "LayerNormalization", "GroupNormalization"
SHAPES = ((2, 4), (4,), (4,))
REQUIRED: dict[str, dict[str, Any]] = {GROUP: {"num_groups": 2}}
TENSOR = helper.make_tensor("t", onnx.TensorProto.FLOAT, (), [1.0])

#: Of each attribute, values of types other than its own.
WRONG_TYPES: dict[str, list[Any]] = {
    "epsilon": [1, "1e-5", [1], [1.0], [b"1"], TENSOR],
    "axes": [1, 1.0, "1", [1.0], ["1"], TENSOR],
    "axis": [1.0, "1", [1], [1.0], TENSOR],
    "num_groups": [2.0, "2", [2], [2.0]],
    "channel_block": [8.0, [8]],
    "subtract_mean": [1.0, "yes", [1]],
    "stash_type": [1.0, "float", [1], 77, 10],
    "activation": [["Relu"], 1, 1.0, [1], TENSOR],
    "activation_params": [1.0, 1, [1], "1"],
    "residual_stage": [1, ["input"], [1.0]],
}
TYPES = [
    (operator, name, value)
    for operator, known in OPERATORS.items()
    for name, values in WRONG_TYPES.items()
    if name in known.attributes
    or name in ("activation", "activation_params", "residual_stage")
    or (name == "channel_block" and "axis" in known.attributes)
    for value in values
]
#: Names of no attribute, or of another operator's.
NAMES = [
    *((LAYER, name) for name in ("Axes", "axis", "eps", "num_groups", "Epsilon", "channel_block")),
    *((GROUP, name) for name in ("axes", "group", "subtract_mean", "momentum")),
    ("InstanceNormalization", "num_groups"),
    ("RMSNormalization", "subtract_mean"),
]


def node_model(operator: str, **attributes: Any) -> onnx.ModelProto:
    return model(operator, SHAPES, **{**REQUIRED.get(operator, {}), **attributes})


def plain_session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    onnxnorm.register(options)
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize(("operator", "name", "value"), TYPES)
def test_an_attribute_of_another_type(operator: str, name: str, value: Any) -> None:
    proto = node_model(operator, **{name: value})
    with pytest.raises(ModelFileError, match=rf"{operator} node 'norm'.*{name}.*accepted: "):
        checks.check(proto)
    with pytest.raises(Exception, match=rf"(?s){operator} node 'norm'.*{name}.*accepted: "):
        plain_session(proto)


@pytest.mark.parametrize(("operator", "name"), NAMES)
def test_a_name_of_no_attribute_of_the_operator(operator: str, name: str) -> None:
    proto = node_model(operator, **{name: 1})
    with pytest.raises(ModelFileError, match=rf"{operator} node 'norm'.*'{name}'; accepted: "):
        checks.check(proto)
    if any(name in known.attributes for known in OPERATORS.values()):  # the library knows it
        with pytest.raises(Exception, match=rf"{operator} node 'norm'.*{name} is not one of this"):
            plain_session(proto)


def versioned(version: int) -> onnx.ModelProto:
    proto = node_model(LAYER)
    next(entry for entry in proto.opset_import if entry.domain == DOMAIN).version = version
    return proto


def with_inputs(*names: str) -> onnx.ModelProto:
    proto = node_model(LAYER)
    del proto.graph.node[0].input[:]
    proto.graph.node[0].input.extend(names)
    return proto


def inner_node() -> onnx.ModelProto:
    """The fault in the branch of an If, of a function."""
    node = helper.make_node(LAYER, ["X", "s", "b"], ["Z"], name="norm", domain=DOMAIN, eps=1.0)
    graph = helper.make_graph([node], "branch", [], [helper.make_empty_tensor_value_info("Z")])
    choice = helper.make_node("If", ["c"], ["Y"], then_branch=graph, else_branch=graph)
    proto = node_model(LAYER)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    proto.functions.append(
        helper.make_function("local", "F", ["X", "s", "b", "c"], ["Y"], [choice], imports)
    )
    return proto


FAULTS: dict[str, tuple[onnx.ModelProto, str]] = {
    "version 2": (versioned(2), "version 2 of the operator domain onnxnorm; accepted: 1"),
    "version 0": (versioned(0), "version 0"),
    "name": (node_model(LAYER, eps=1.0), "'eps'; accepted: axes, epsilon"),
    "NaN": (node_model(LAYER, epsilon=math.nan), "epsilon is nan; accepted: a finite number"),
    "infinite": (node_model(LAYER, epsilon=math.inf), "epsilon is inf; accepted"),
    "negative": (node_model(LAYER, epsilon=-1.0), "epsilon is -1.0; accepted"),
    "no group": (node_model(GROUP, num_groups=0), "num_groups is 0; accepted: 1 or more"),
    "fewer groups": (node_model(GROUP, num_groups=-(2**63)), "num_groups is -"),
    "block": (node_model(GROUP, channel_block=-8, axis=1), "channel_block is -8; accepted"),
    "mean": (node_model(LAYER, subtract_mean=2), "subtract_mean is 2; accepted: 0 or 1"),
    "activation": (node_model(LAYER, activation="relu"), "activation is 'relu'; accepted: Relu"),
    "parameters": (
        node_model(LAYER, activation="Elu", activation_params=[1.0, 2.0]),
        "for the activation Elu; accepted: .alpha.",
    ),
    "no parameters": (node_model(LAYER, activation="Elu"), "for the activation Elu; accepted: "),
    "no number": (
        node_model(LAYER, activation="Clip", activation_params=[0.0, math.nan]),
        "for the activation Clip; accepted: ",
    ),
    "no activation": (node_model(LAYER, activation_params=[1.0]), "there is no activation"),
    "stage": (node_model(LAYER, residual_stage="middle"), "residual_stage is 'middle'; accepted"),
    "type": (node_model(LAYER, epsilon=1), "epsilon is INT; accepted: FLOAT"),
    "inside": (inner_node(), "'eps'"),
    "no scale": (with_inputs("X", "", "bias"), "the input scale is left out"),
    "no bias": (with_inputs("X", "scale", ""), "the input bias is left out"),
    "two inputs": (with_inputs("X", "scale"), "the input bias is left out"),
    "no X": (with_inputs("", "scale", "bias"), "the input X is left out"),
    "five inputs": (with_inputs("X", "scale", "bias", "X", "X"), "has 5 inputs"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wherever_a_model_is_read(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proto, message = FAULTS[fault]
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    readers: list[Any] = [
        onnxnorm.optimize,
        onnxnorm.inspect,
        onnxnorm.InferenceSession,
        lambda source: onnxnorm.InferenceSession(source, optimize=False),
    ]
    for read in readers:
        for source in (proto, path):
            with pytest.raises(ModelFileError, match=message):
                read(source)
    for command in (["optimize", str(path), "-o", str(tmp_path / "o.onnx")], ["bench", str(path)],
                    ["inspect", str(path)]):  # fmt: skip
        assert main(command) == 2
        assert message.split(";")[0] in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "o.onnx").exists()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("optimize", [True, False])
def test_an_omitted_residual_is_none(count: int, optimize: bool, tmp_path: Path) -> None:
    proto = with_inputs("X", "scale", "bias", *[""] * count)
    rng = np.random.default_rng(0)
    feeds = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in zip(("X", "scale", "bias"), SHAPES, strict=True)
    }
    expected = reference(LAYER, *feeds.values())
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    for source in (proto, path):
        y = onnxnorm.InferenceSession(source, optimize=optimize).run(None, feeds)[0]
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    assert [*onnxnorm.optimize(proto).graph.node[0].input] == ["X", "scale", "bias"]


def test_what_operators_accept_passes() -> None:
    for operator, known in OPERATORS.items():
        given = {k: v for k, v in known.attributes.items() if v is not None}
        fused = {"activation": "Clip", "activation_params": [0.0, 1.0], "residual_stage": "output"}
        checks.check(node_model(operator, **given, **fused))
