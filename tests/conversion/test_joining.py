"""Files of two models, joined and cut by onnx's own tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.compose
import onnx.utils
import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from onnxnorm import LayerRecord  # noqa: E402
from onnxnorm.graph import records  # noqa: E402

keras = tf.keras


def _network(activation: str) -> Any:
    inputs = keras.Input((6, 4))
    norm = keras.layers.LayerNormalization(epsilon=0.01)
    x = norm(inputs)
    x = norm(keras.layers.Dense(4, activation=activation)(x))
    x = keras.layers.BatchNormalization()(keras.layers.Conv1D(4, 3, padding="same")(x))
    return keras.Model(inputs, keras.layers.UnitNormalization()(x))


def _seen(layer: LayerRecord, prefix: str = "") -> tuple[str, str, tuple[str, ...]]:
    return layer.name, layer.lowering, tuple(f"{prefix}{node}" for node in layer.nodes)


@pytest.mark.parametrize("lowering", ["custom", "native"])
def test_both_files_keep_their_records_and_their_numbers(lowering: Any, tmp_path: Path) -> None:
    networks = [_network("relu"), _network("tanh")]
    first, second = (onnxnorm.convert(network, lowering=lowering) for network in networks)
    results = [(first.model.graph.output[0].name, second.model.graph.input[0].name)]
    joined = onnx.compose.merge_models(
        first.model, second.model, results, prefix1="a_", prefix2="b_"
    )
    expected = [_seen(layer, "a_") for layer in first.layers if layer.nodes]
    of_second = [_seen(layer, "b_") for layer in second.layers if layer.nodes]
    layers = records.read(joined)
    assert [_seen(layer) for layer in layers if layer.nodes] == expected + of_second
    assert len(layers) == len(first.layers) + len(second.layers)

    optimized = onnxnorm.optimize(joined)
    found = onnxnorm.inspect(optimized)
    assert [_seen(layer) for layer in found.layers if layer.nodes] == expected + of_second
    assert found.problems == ()
    x = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    wanted = networks[1](networks[0](x)).numpy()
    for model in joined, optimized:
        session = onnxnorm.InferenceSession(model)
        (actual,) = session.run(None, {model.graph.input[0].name: x})
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)

    onnx.save(joined, tmp_path / "joined.onnx")
    part = tmp_path / "part.onnx"
    between, end = f"a_{results[0][0]}", joined.graph.output[0].name
    onnx.utils.extract_model(str(tmp_path / "joined.onnx"), str(part), [between], [end])
    assert [_seen(layer) for layer in onnxnorm.inspect(part).layers] == of_second
