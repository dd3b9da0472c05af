"""The float64 oracle against computations that do not use TensorFlow, or not in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

tf = pytest.importorskip("tensorflow")

from onnxnorm import frameworks, opset  # noqa: E402
from onnxnorm.parity import oracle, subject  # noqa: E402
from tests.parity.networks import NORMS, classifier, randomized  # noqa: E402

L = tf.keras.layers
Array = npt.NDArray[Any]
IMAGES = np.random.default_rng(7).normal(size=(3, 10, 10, 3)).astype(np.float32)
EXACT = 1e-13


def exact(model: Any, *inputs: Array) -> oracle.Exact:
    return oracle.evaluate(subject.trace(model).function, inputs)


def float64_weights(layer: Any) -> list[Array]:
    return [np.asarray(weight).astype(np.float64) for weight in layer.get_weights()]


def convolution(x: Array, kernel: Array, bias: Array) -> Array:
    height, width = (size - k + 1 for size, k in zip(x.shape[1:3], kernel.shape[:2], strict=True))
    windows = np.stack(
        [
            x[:, i : i + height, j : j + width, :]
            for i in range(kernel.shape[0])
            for j in range(kernel.shape[1])
        ],
        axis=-2,
    )
    return np.einsum("nhwkc,kco->nhwo", windows, kernel.reshape(-1, *kernel.shape[2:])) + bias


def normalization(layer: Any, x: Array) -> Array:
    """By the operator's plain numpy reference, epsilon rounded as the float32 graph holds it."""
    known = frameworks.recognize(layer)
    assert known is not None
    spec = known.fitted(tuple(x.shape)).spec
    operator = opset.OPERATORS[spec.operator]
    attributes = {**operator.attributes_of(spec), "epsilon": float(np.float32(spec.epsilon))}
    return operator.reference(x, *float64_weights(layer), **attributes)


@pytest.mark.parametrize("norm", NORMS)
def test_a_whole_network_in_plain_numpy(norm: str) -> None:
    model = classifier(norm)
    _, conv, norm_layer, _, _, dense = model.layers
    x = convolution(IMAGES.astype(np.float64), *float64_weights(conv))
    x = np.maximum(normalization(norm_layer, x), 0)
    kernel, bias = float64_weights(dense)
    logits = x.reshape(len(x), -1) @ kernel + bias
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found = exact(model, IMAGES)
    assert found.outputs[0].dtype == np.float64
    assert np.abs(found.outputs[0] - powers / powers.sum(axis=-1, keepdims=True)).max() < EXACT
    assert (found.precision, found.not_widened) == ("float32", ())


def test_batch_normalization_has_no_float64_kernel() -> None:
    image = tf.keras.Input((10, 10, 3))
    model = randomized(tf.keras.Model(image, L.BatchNormalization()(image)))
    layer = model.layers[-1]
    gamma, beta, mean, variance = float64_weights(layer)
    epsilon = float(np.float32(layer.epsilon))
    y = (IMAGES.astype(np.float64) - mean) / np.sqrt(variance + epsilon) * gamma + beta
    assert np.abs(exact(model, IMAGES).outputs[0] - y).max() < EXACT


def double_of(build: Any) -> tuple[Any, Any]:
    """The same network in float32 and in float64, with the same values as weights."""
    single = randomized(build("float32"))
    double = build("float64")
    double.set_weights(single.get_weights())
    return single, double


def recurrent(kind: str) -> Any:
    def build(dtype: str) -> Any:
        x = steps = tf.keras.Input((5, 3), dtype=dtype)
        x = L.Bidirectional(getattr(L, kind)(4, return_sequences=True, dtype=dtype), dtype=dtype)(x)
        return tf.keras.Model(steps, x)

    return build


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_loops(kind: str) -> None:
    single, double = double_of(recurrent(kind))
    steps = np.random.default_rng(2).normal(size=(2, 5, 3)).astype(np.float32)
    expected = np.asarray(double(steps.astype(np.float64), training=False))
    assert np.abs(exact(single, steps).outputs[0] - expected).max() < EXACT


def attention(dtype: str) -> Any:
    x = tf.keras.Input((4, 6), dtype=dtype)
    attended = L.MultiHeadAttention(2, 3, dtype=dtype)(x, x)
    y = L.Dense(5, activation="gelu", dtype=dtype)(L.Add(dtype=dtype)([x, attended]))
    return tf.keras.Model(x, [y, L.Activation("swish", dtype=dtype)(y)])


def test_attention_and_activations() -> None:
    single, double = double_of(attention)
    x = np.random.default_rng(2).normal(size=(2, 4, 6)).astype(np.float32)
    expected = double(x.astype(np.float64), training=False)
    # Keras 3 writes some constants of its formulas in float32.
    for found, wanted in zip(exact(single, x).outputs, expected, strict=True):
        assert np.abs(found - np.asarray(wanted)).max() < 1e-8


def test_branches_and_while_loops_of_the_user() -> None:
    class Collatz(L.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            def double() -> Any:
                return tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y / 3), [0, x])[1]

            return tf.cond(tf.reduce_sum(x) > 0, lambda: x * 7, double)

    x = tf.keras.Input((2,))
    model = tf.keras.Model(x, Collatz()(x))
    for sign in (1.0, -1.0):
        values = np.full((2, 2), sign, np.float32)
        expected = values * 7.0 if sign > 0 else values.astype(np.float64) / 27
        assert np.abs(exact(model, values).outputs[0] - expected).max() < EXACT


def test_grouped_convolutions_that_keras_compiles() -> None:
    image = tf.keras.Input((10, 10, 3))
    conv = L.Conv2D(6, 3, groups=3)
    model = randomized(tf.keras.Model(image, conv(image)))
    kernel, bias = float64_weights(conv)
    parts = [
        convolution(
            IMAGES[..., [g]].astype(np.float64),
            kernel[..., 2 * g : 2 * g + 2],
            bias[2 * g : 2 * g + 2],
        )
        for g in range(3)
    ]
    assert np.abs(exact(model, IMAGES).outputs[0] - np.concatenate(parts, -1)).max() < EXACT


def test_stored_values_are_taken_exactly() -> None:
    x = tf.keras.Input((3,), dtype="float16")
    model = tf.keras.Model(x, L.Dense(2, dtype="float16")(x))
    kernel, bias = float64_weights(model.layers[-1])
    values = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float16)
    found = exact(model, values)
    assert found.precision == "float16"
    assert np.abs(found.outputs[0] - (values.astype(np.float64) @ kernel + bias)).max() < EXACT


def test_operations_without_a_float64_form_are_named() -> None:
    image = tf.keras.Input((10, 10, 3))
    y = L.UpSampling2D(2, interpolation="bilinear")(image)
    model = tf.keras.Model(image, y)
    found = exact(model, IMAGES)
    assert found.not_widened == ("ResizeBilinear",)
    assert np.allclose(found.outputs[0], model(IMAGES), atol=1e-6)


def test_integers_and_strings_pass_through() -> None:
    words = tf.keras.Input((2,), dtype="string")
    lookup = L.StringLookup(vocabulary=["a", "b"])
    model = tf.keras.Model(words, lookup(words))
    (found,) = exact(model, np.array([["a", "b"], ["c", "a"]], object)).outputs
    assert found.tolist() == [[1, 2], [0, 1]]
