"""The optimized form without the native library: function bodies against the float64 oracles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from onnxnorm.graph import functions
from onnxnorm.graph.nodes import all_graphs
from onnxnorm.opset import OPERATORS, RESIDUAL
from onnxnorm.opset.activations import ACTIVATIONS
from tests.custom_ops.nodes import ALL_INPUTS, Array, assert_close, model, session, stored

ELEMENTS = ("float32", "float16", "bfloat16", "float64")
PARAMETERS = {"Clip": [-0.5, 1.5], "LeakyRelu": [0.3], "Elu": [0.7], "Selu": [1.5, 1.1],
              "Swish": [1.7]}  # fmt: skip
#: Attributes, shape of X, shape of scale and bias.
NODES: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "GroupNormalization": ({"num_groups": 2}, (2, 4, 3), (4,)),
    "InstanceNormalization": ({"axis": -1}, (2, 3, 4), (4,)),
    "LayerNormalization": ({"axes": [-1]}, (2, 3, 4), (4,)),
    "RMSNormalization": ({"axes": [1]}, (2, 3, 4), (3, 1)),
    "FilterResponseNormalization": ({"axes": [1]}, (2, 3, 4), (3, 1)),
    "UnitNormalization": ({"axes": [1, 2]}, (2, 3, 4), (1,)),
}


def node_model(
    operator: str, shapes: tuple[tuple[int, ...], ...], element: str, **attributes: Any
) -> onnx.ModelProto:
    """A model of one node with its function body, in the types that `model` has outside."""
    stash = 11 if element == "float64" else 1
    proto = model(operator, shapes, element, **attributes, stash_type=stash)
    if len(shapes) > 3:
        (node,) = [node for node in proto.graph.node if node.domain]
        node.op_type = f"{RESIDUAL}{operator}"
    (y,) = proto.graph.output
    y_shape = np.broadcast_shapes(shapes[0], *shapes[3:])
    y.CopyFrom(onnx.helper.make_tensor_value_info("Y", y.type.tensor_type.elem_type, y_shape))
    functions.complete(proto)
    assert not functions.needs_library(proto)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def in_onnxruntime(level: onnxruntime.GraphOptimizationLevel) -> Callable[..., Array]:
    def run(proto: onnx.ModelProto, feeds: dict[str, Array]) -> Array:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        options.log_severity_level = 3
        content, providers = proto.SerializeToString(), ["CPUExecutionProvider"]
        runner = onnxruntime.InferenceSession(content, options, providers=providers)
        return np.asarray(runner.run(None, feeds)[0])

    return run


def in_reference(proto: onnx.ModelProto, feeds: dict[str, Array]) -> Array:
    return np.asarray(ReferenceEvaluator(proto).run(None, feeds)[0])


WAYS = {
    "optimized": in_onnxruntime(onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL),
    "as it is": in_onnxruntime(onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL),
    "onnx.reference": in_reference,
}


def attributes_of(activation: str | None) -> dict[str, Any]:
    given: dict[str, Any] = {"activation": activation} if activation else {}
    if activation in PARAMETERS:
        given["activation_params"] = PARAMETERS[activation]
    return given


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("way", WAYS)
def test_body(way: str, activation: str | None) -> None:
    rng = np.random.default_rng(len(activation or ""))
    for operator, (attributes, shape, parameter_shape) in NODES.items():
        if operator not in ("GroupNormalization", "LayerNormalization") and activation != "Selu":
            continue
        for element in ELEMENTS:
            # onnx.reference cuts bfloat16 off where every runtime rounds.
            if element == "bfloat16" and way == "onnx.reference":
                continue
            for stage in (None, "output", "input"):
                shapes = (shape, parameter_shape, parameter_shape, shape)[: 4 if stage else 3]
                given = {**attributes, **attributes_of(activation)}
                if stage:
                    given["residual_stage"] = stage
                values = [stored(rng.normal(scale=2, size=s), element) for s in shapes]
                feeds = dict(zip(ALL_INPUTS, values, strict=False))
                y = WAYS[way](node_model(operator, shapes, element, **given), feeds)
                assert_close(operator, y, *values[:3], element, *values[3:], **given)


@pytest.mark.parametrize("stage", ["output", "input"])
def test_a_residual_that_is_larger_than_x(stage: str) -> None:
    shapes = ((2, 1, 4), (4,), (4,), (5, 2, 3, 4))
    rng = np.random.default_rng(0)
    values = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    given = {"axes": [-1], "residual_stage": stage}
    proto = node_model("LayerNormalization", shapes, "float32", **given)
    for way in WAYS.values():
        y = way(proto, dict(zip(ALL_INPUTS, values, strict=True)))
        assert_close("LayerNormalization", y, *values[:3], "float32", values[3], **given)


SPECIAL = np.array([-np.inf, np.inf, np.nan, -1e30, 1e30, -50, -20, 0, 20, 50, 8, -8], np.float32)


@pytest.mark.parametrize("element", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_special_values_are_the_kernel_s(activation: str, element: str) -> None:
    """The norm of zeros is the bias."""
    shapes = ((2, 12), (12,), (12,))
    x, scale = np.zeros(shapes[0], element), np.ones(12, element)
    feeds = {"X": x, "scale": scale, "bias": SPECIAL.astype(element)}
    given = {**attributes_of(activation), "axes": [-1]}
    for more in ({}, {"activation_params": [0.0]}) if activation == "Swish" else ({},):
        proto = node_model("LayerNormalization", shapes, element, **{**given, **more})
        wanted = session(proto).run(None, feeds)[0]
        for way in WAYS.values():
            y = way(proto, feeds)
            tolerance = {"float32": 2e-6, "float64": 1e-13}[element]
            np.testing.assert_allclose(y, wanted, rtol=tolerance, atol=tolerance)


def test_onnxruntime_resolves_every_branch_when_it_loads_a_node(tmp_path: Path) -> None:
    shapes = ((2, 4, 3), (4,), (4,), (2, 4, 3))
    proto = node_model("GroupNormalization", shapes, "float32", num_groups=2, activation="Relu")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "as_run.onnx")
    content = proto.SerializeToString()
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    run = {n.op_type for g in all_graphs(onnx.load(tmp_path / "as_run.onnx").graph) for n in g.node}
    assert {"Max"} <= run
    assert not {"If", "TfIdfVectorizer", "Erf", "Exp"} & run


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_operator_with_a_residual_is_a_kernel_too(operator: str) -> None:
    attributes, shape, parameter_shape = NODES[operator]
    shapes = (shape, parameter_shape, parameter_shape, shape)
    rng = np.random.default_rng(0)
    values = [rng.normal(size=s).astype(np.float32) for s in shapes]
    feeds = dict(zip(ALL_INPUTS, values, strict=True))
    proto = node_model(operator, shapes, "float32", **attributes)
    (y,) = session(proto).run(None, feeds)
    del proto.functions[:]
    np.testing.assert_array_equal(session(proto).run(None, feeds)[0], y)
    # As older files have it.
    before = model(operator, shapes, "float32", **attributes)
    np.testing.assert_array_equal(session(before).run(None, feeds)[0], y)


def test_an_operator_with_a_residual_wants_it() -> None:
    proto = model("ResidualLayerNormalization", ((2, 4), (4,), (4,)), "float32")
    with pytest.raises(Exception, match="ResidualLayerNormalization"):
        session(proto)
