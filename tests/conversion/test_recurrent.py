"""Recurrent layers of custom cells: one Scan each, and the same numbers as Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from tests.conversion.keras_cases import KERAS_2, functional  # noqa: E402
from tests.conversion.test_conversion import keras_outputs, norm_nodes, run  # noqa: E402

L = tf.keras.layers

if KERAS_2:
    import tensorflow_addons as tfa


@tf.keras.utils.register_keras_serializable("onnxnorm tests")
class NormCell(L.Layer):  # type: ignore[misc] # untyped
    """A simple recurrent cell that normalizes both of its products."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.state_size = self.output_size = units
        self.product = L.Dense(units)
        self.recurrent = L.Dense(units, use_bias=False)
        self.norms = [L.LayerNormalization(name=f"norm_{k}") for k in range(2)]

    def build(self, shape: Any) -> None:
        self.product.build((None, shape[-1]))
        self.recurrent.build((None, self.state_size))
        for norm in self.norms:
            norm.build((None, self.state_size))
        super().build(shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.state_size}

    def call(self, inputs: Any, states: Any, training: Any = None) -> Any:
        one, other = self.norms
        y = tf.tanh(one(self.product(inputs)) + other(self.recurrent(states[0])))
        return y, [y]


CELLS: dict[str, Any] = {"own": NormCell}
if KERAS_2:
    CELLS["lstm"] = tfa.rnn.LayerNormLSTMCell
    CELLS["simple"] = tfa.rnn.LayerNormSimpleRNNCell
else:
    CELLS["gru"] = L.GRUCell

# How many Scans, and the layers behind an input of (steps, 3).
NETWORKS: dict[str, Any] = {
    "masked and stacked": lambda cell: (
        (None, 3),
        3,
        [
            L.Masking(),
            L.Bidirectional(L.RNN(cell(4), return_sequences=True)),
            L.RNN([cell(3), cell(2)], go_backwards=True),
        ],
    ),
    "static": lambda cell: ((4, 3), 1, [L.RNN(cell(4), return_sequences=True)]),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("cell", CELLS)
def test_as_scans(cell: str, network: str) -> None:
    tf.keras.utils.set_random_seed(0)
    shape, scans, layers = NETWORKS[network](CELLS[cell])
    model = functional(shape, *layers)
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    x[0, 2:] = x[1, 1] = 0
    expected = keras_outputs(model, [x])
    custom = onnxnorm.convert(model)
    forms = [custom.model, onnxnorm.optimize(custom.model)]
    if network == "static":
        forms.append(onnxnorm.convert(model, lowering="native", opset=21).model)
    for converted in forms:
        assert sum(node.op_type == "Scan" for node in converted.graph.node) == scans
        assert all(node.op_type != "Loop" for node in converted.graph.node)
        for y, want in zip(run(converted, [x], library=True), expected, strict=True):
            np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)
    assert not onnxnorm.inspect(custom.model).problems
    made = [name for record in custom.layers for name in record.nodes]
    assert sorted(made) == sorted(node.name for node in norm_nodes(custom.model))


TOLERANCES: dict[str, Any] = {
    "float16": {"rtol": 1e-2, "atol": 5e-3},
    # The attribute epsilon is a float32.
    "float64": {"rtol": 1e-7, "atol": 1e-8},
}


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_other_types(dtype: str) -> None:
    tf.keras.utils.set_random_seed(0)
    inputs = L.Input((None, 3), dtype=dtype)
    cell = NormCell(4, dtype=dtype)
    cell.product, cell.recurrent = (L.Dense(4, dtype=dtype) for _ in range(2))
    cell.norms = [L.LayerNormalization(dtype=dtype) for _ in range(2)]
    model = tf.keras.Model(inputs, L.RNN(cell, dtype=dtype)(inputs))
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(dtype)
    (expected,) = keras_outputs(model, [x])
    converted = onnxnorm.convert(model).model
    assert any(node.op_type == "Scan" for node in converted.graph.node)
    (y,) = run(converted, [x], library=True)
    np.testing.assert_allclose(y, expected, **TOLERANCES[dtype])
