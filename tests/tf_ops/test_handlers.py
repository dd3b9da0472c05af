"""Operators that tf2onnx lacks, against TensorFlow, also where their textbook form cancels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from onnxnorm.tf_ops import HANDLERS  # noqa: E402
from tests.conversion.keras_cases import functional  # noqa: E402
from tests.conversion.test_conversion import run  # noqa: E402

FUNCTIONS: dict[str, Callable[[Any], Any]] = {"Erfc": tf.math.erfc, "Expm1": tf.math.expm1}


def test_every_handler_has_a_case() -> None:
    assert set(FUNCTIONS) == set(HANDLERS)


class Apply(tf.keras.layers.Layer):
    """Any TensorFlow function as a layer."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def call(self, x: Any) -> Any:
        return self.function(x)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_handler(name: str) -> None:
    x = np.array([[-80, -20, -5, -1, -1e-3, -1e-7, 0, 1e-7, 1e-3, 1, 5, 20, 80]], np.float32)
    model = functional((x.shape[1],), Apply(FUNCTIONS[name]))
    y = run(onnxnorm.convert(model).model, [x])[0]
    np.testing.assert_allclose(y, FUNCTIONS[name](x), rtol=1e-6, atol=2e-7 * (name == "Erfc"))


@pytest.mark.parametrize("activation", ["gelu", "elu", "selu", "swish", "softplus", "mish"])
def test_activations_behind_a_norm(activation: str) -> None:
    if not hasattr(tf.keras.activations, activation):
        pytest.skip(f"this Keras has no {activation}")
    layers = tf.keras.layers
    model = functional((6, 8), layers.LayerNormalization(), layers.Activation(activation))
    x = np.random.default_rng(0).normal(size=(2, 6, 8)).astype(np.float32)
    y = run(onnxnorm.convert(model).model, [x])[0]
    np.testing.assert_allclose(y, np.asarray(model(x)), atol=2e-6)
