"""Each activation as Keras and tf2onnx spell it becomes an attribute of the norm before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from onnxnorm.graph.nodes import attributes_of  # noqa: E402
from tests.conversion.keras_cases import randomized  # noqa: E402
from tests.graph.fusion import keras_activations  # noqa: E402
from tests.graph.fusion.evaluation import evaluate  # noqa: E402


@pytest.fixture(scope="module", params=["float32", "float16", "float64"])
def converted(request: pytest.FixtureRequest) -> tuple[str, Any, onnx.ModelProto]:
    model = randomized(keras_activations.model(request.param))
    return request.param, model, onnxnorm.convert(model).model


def test_activations(converted: Any) -> None:
    dtype, _, proto = converted
    nodes = {n.name: n for n in onnxnorm.optimize(proto).graph.node if n.domain == "onnxnorm"}
    cases = keras_activations.cases(dtype)
    for place, (name, (_, activation, parameters)) in enumerate(cases.items()):
        if dtype == "float64" and name in keras_activations.NOT_IN_FLOAT64:
            activation, parameters = "", ()
        attributes = attributes_of(nodes[f"norm_{place}"])
        assert attributes.get("activation", b"").decode() == activation, name
        given = attributes.get("activation_params", ())
        np.testing.assert_allclose(given, parameters, rtol=2e-3, err_msg=name)


def test_same_results(converted: Any) -> None:
    dtype, model, proto = converted
    x = np.random.default_rng(3).normal(scale=2, size=(2, 4, 8)).astype(dtype)
    optimized = onnxnorm.optimize(proto)
    onnx.checker.check_model(optimized, full_check=True)
    assert [f.name for f in optimized.functions] == ["LayerNormalization"]
    assert onnxnorm.optimize(optimized) == optimized
    results = evaluate(optimized, {"x": x})
    tolerance = {"float32": 2e-6, "float16": 4e-3, "float64": 1e-6}[dtype]
    names = keras_activations.cases(dtype)
    for name, y, wanted in zip(names, results.values(), model(x), strict=True):
        wanted = np.asarray(wanted)
        np.testing.assert_allclose(y, wanted, rtol=tolerance, atol=tolerance, err_msg=name)
