"""Large weights: the same graph as with small ones, in little memory, beyond 2 GB too."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from onnxnorm import weights  # noqa: E402
from onnxnorm.graph.inspection import inspect  # noqa: E402
from onnxnorm.graph.nodes import all_graphs  # noqa: E402
from tests.conversion.test_conversion import keras_outputs, run  # noqa: E402

L = tf.keras.layers


def convolutions() -> Any:
    x = inputs = L.Input((12, 12, 8))
    shared = L.Conv2D(8, 3, padding="same", use_bias=False)
    x = L.BatchNormalization()(shared(L.BatchNormalization()(shared(x))))
    x = L.DepthwiseConv2D(3, dilation_rate=2)(x)
    x = L.LayerNormalization(axis=[1, 2, 3])(x)
    return tf.keras.Model(inputs, L.Conv2DTranspose(4, 3, strides=2)(x))


def recurrent() -> Any:
    x = inputs = L.Input((5, 6))
    x = L.LSTM(8, return_sequences=True)(x)
    x = L.Bidirectional(L.GRU(8, return_sequences=True))(x)
    return tf.keras.Model(inputs, L.RNN(L.LSTMCell(8))(x))


def attention() -> Any:
    x = inputs = L.Input((5,), dtype="int32")
    x = L.Embedding(40, 16)(x)
    x = L.LayerNormalization()(x + L.MultiHeadAttention(2, 8)(x, x))
    return tf.keras.Model(inputs, L.Dense(8)(x))


def half_precision() -> Any:
    with_casts = tf.keras.mixed_precision.Policy("mixed_float16")
    x = inputs = L.Input((16,))
    x = L.LayerNormalization(dtype=with_casts)(L.Dense(16, dtype=with_casts)(x))
    return tf.keras.Model(inputs, L.Dense(16)(x))


class Scaled(L.Layer):  # type: ignore[misc] # untyped
    """Computes its kernel from a weight, and reads one that it outputs as it is."""

    def build(self, shape: Any) -> None:
        self.direction = self.add_weight(name="direction", shape=(shape[-1], 16))
        self.table = self.add_weight(name="table", shape=(4, 4))

    def call(self, x: Any) -> Any:
        kernel = tf.math.l2_normalize(tf.convert_to_tensor(self.direction), axis=0)
        return tf.matmul(x, kernel) @ tf.transpose(kernel), tf.convert_to_tensor(self.table)


def computed() -> Any:
    inputs = L.Input((16,))
    return tf.keras.Model(inputs, list(Scaled()(L.LayerNormalization()(inputs))))


# Between the weights of these models and the shapes and axes in their graphs.
SMALL_LIMIT = 128
MODELS = (convolutions, recurrent, attention, half_precision, computed)


def filled(model: Any) -> Any:
    generator = np.random.default_rng(0)
    model.set_weights([generator.uniform(0.1, 1, w.shape) for w in model.get_weights()])
    return model


def inputs_of(model: Any) -> Any:
    (given,) = model.inputs
    generator = np.random.default_rng(1)
    return generator.integers(0, 9, (2, *given.shape[1:])).astype(
        tf.as_dtype(given.dtype).as_numpy_dtype
    )


def content(model: onnx.ModelProto) -> tuple[Any, ...]:
    graphs = list(all_graphs(model.graph))
    operators = Counter(node.op_type for graph in graphs for node in graph.node)
    values = [numpy_helper.to_array(t) for graph in graphs for t in graph.initializer]
    return operators, Counter((v.dtype, v.shape, v.tobytes()) for v in values)


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_size_makes_no_difference(build: Callable[[], Any], monkeypatch: Any) -> None:
    model = filled(build())
    found = []
    for limit in (2**62, SMALL_LIMIT):
        monkeypatch.setattr(weights, "LARGE", limit)
        found.append(onnxnorm.convert(model).model)
    assert content(found[0]) == content(found[1])
    given = inputs_of(model)
    for actual, expected in zip(run(found[1], [given]), keras_outputs(model, [given]), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("lowering", ["custom", "native"])
def test_later_opsets_keep_the_weights(lowering: Any, monkeypatch: Any) -> None:
    model = filled(recurrent())
    monkeypatch.setattr(weights, "LARGE", SMALL_LIMIT)
    converted = onnxnorm.convert(model, lowering=lowering, opset=21).model
    onnx.checker.check_model(converted, full_check=True)
    given = inputs_of(model)
    (actual,), (expected,) = run(converted, [given]), keras_outputs(model, [given])
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


# Arguments: width and number of the layers, the file to write. Prints what it took beside the
# imports, as a multiple of the weights, and the largest error in ONNX Runtime.
MEMORY = r"""
import re, sys
import numpy as np, onnxnorm.conversion, onnxruntime, tensorflow as tf, tf2onnx.tfonnx

def peak():
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) * 1024

width, count, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
tf.constant(1) + 1
imported = peak()
L = tf.keras.layers
x = inputs = L.Input((width,))
for index in range(count):
    x = L.LayerNormalization()(L.Dense(width, kernel_initializer="zeros")(x))
model = tf.keras.Model(inputs, x)
for index, weight in enumerate(w for w in model.weights if len(w.shape) == 2):
    weight.assign(tf.random.stateless_uniform(weight.shape, [index, 0], -1 / width, 1 / width))
onnxnorm.convert(model).save(path)
print("times", (peak() - imported) / (width * width * count * 4))
given = np.random.default_rng(0).random((2, width), np.float32)
expected = model(given).numpy()
del model
session = onnxnorm.InferenceSession(path)
(actual,) = session.run(None, {session.get_inputs()[0].name: given})
print("error", np.abs(actual - expected).max())
"""


def times_the_weights(width: int, count: int, path: Path) -> float:
    command = [sys.executable, "-c", MEMORY, str(width), str(count), str(path)]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = dict(line.split() for line in done.stdout.splitlines())
    assert float(found["error"]) < 1e-3
    return float(found["times"])


@pytest.mark.skipif(sys.platform != "linux", reason="the process' memory is read from /proc")
def test_memory_is_less_than_three_times_the_weights(tmp_path: Path) -> None:
    assert times_the_weights(2048, 12, tmp_path / "m.onnx") < 3


@pytest.mark.large
def test_beyond_2_gb(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert times_the_weights(8192, 9, path) < 3
    assert path.stat().st_size < 2**20
    assert path.with_name("m.onnx.data").stat().st_size > 2**31
    assert [record.operator for record in inspect(path).nodes] == ["LayerNormalization"] * 9
