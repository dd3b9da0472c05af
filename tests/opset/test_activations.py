"""The activations' oracles against ONNX' own operators, and far from zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from onnxnorm.opset.activations import ACTIVATIONS

#: ONNX operators of the same name and meaning, and how each takes its parameters.
IN_ONNX: dict[str, dict[str, Any]] = {
    "Relu": {},
    "LeakyRelu": {"alpha": 0.3},
    "Elu": {"alpha": 0.7},
    "Selu": {"alpha": 1.5, "gamma": 1.1},
    "Sigmoid": {},
    "Tanh": {},
    "Softplus": {},
    "HardSwish": {},
    "Gelu": {"approximate": "none"},
    "FastGelu": {"approximate": "tanh"},
}


@pytest.mark.parametrize("name", IN_ONNX)
def test_activations_are_those_of_onnx(name: str) -> None:
    x = np.linspace(-8, 8, 1001)
    attributes = IN_ONNX[name]
    operator = "Gelu" if name == "FastGelu" else name
    node = helper.make_node(operator, ["x"], ["y"], **attributes)
    info = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, [None]) for n in "xy"]
    graph = helper.make_graph([node], name, info[:1], info[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": x})
    parameters = [value for value in attributes.values() if not isinstance(value, str)]
    # The attributes are float32 in the node.
    y = ACTIVATIONS[name](x, *map(np.float32, parameters))
    # onnx.reference sums Gelu as 1 + erf, and has a sixth as a float.
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=2e-7)


def test_activations_without_an_operator_in_onnx() -> None:
    x = np.linspace(-8, 8, 1001)
    np.testing.assert_allclose(ACTIVATIONS["Swish"](x, 1.7), x / (1 + np.exp(-1.7 * x)))
    np.testing.assert_array_equal(ACTIVATIONS["Clip"](x, 0.0, 6.0), np.clip(x, 0, 6))


#: The value at -inf; at inf all but these grow without bound.
LOWEST = {
    "Clip": -np.inf,
    "LeakyRelu": -np.inf,
    "Elu": -1.0,
    "Selu": -1.7580993408473766,
    "Tanh": -1,
}
BOUNDED = ("Sigmoid", "Tanh")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_limits(name: str) -> None:
    activation = ACTIVATIONS[name]
    ends = activation(np.array([-np.inf, np.inf]))
    np.testing.assert_allclose(ends, [LOWEST.get(name, 0), 1 if name in BOUNDED else np.inf])
    far = activation(np.array([-1e30, 1e30]))
    assert np.isfinite(far).all()
    assert np.isnan(activation(np.array([np.nan]))).all()
