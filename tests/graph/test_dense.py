"""Dense layers and attention become MatMuls, whatever sizes are unknown; likenesses stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from tests.conversion.keras_cases import functional, randomized  # noqa: E402
from tests.conversion.test_conversion import operators, run  # noqa: E402

L = tf.keras.layers


class Apply(L.Layer):
    """A function with a kernel as a layer."""

    def __init__(self, function: Callable[[Any, Any], Any], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        self.kernel = self.add_weight(shape=shape, initializer="ones", name="kernel")

    def call(self, x: Any) -> Any:
        return self.function(x, tf.convert_to_tensor(self.kernel))


def product_of_rows(x: Any, kernel: Any) -> Any:
    """Flattens and multiplies as Dense does, but gives the axes back in another order."""
    y = tf.matmul(tf.reshape(x, [-1, kernel.shape[0]]), kernel)
    shape = tf.shape(x)
    return tf.reshape(y, tf.stack([shape[1], shape[0], kernel.shape[1]]))


CASES: dict[str, tuple[tuple[int | None, ...], Callable[[], Any], str | None]] = {
    "dense": ((5, 4), lambda: L.Dense(3), "MatMul Add"),
    "dense of any length": ((None, 4), lambda: L.Dense(3), "MatMul Add"),
    "dense on images": ((None, None, 4), lambda: L.Dense(3, use_bias=False), "MatMul"),
    "time distributed": ((5, 4), lambda: L.TimeDistributed(L.Dense(3)), None),
    "projection to heads": (
        (None, 4),
        lambda: L.EinsumDense("abc,cde->abde", (None, 2, 3)),
        "MatMul Reshape",
    ),
    "projection from heads": (
        (None, 2, 3),
        lambda: L.EinsumDense("abcd,cde->abe", (None, 4)),
        "Reshape MatMul",
    ),
    "tensordot over a middle axis": (
        (4, 5),
        lambda: Apply(lambda x, w: tf.tensordot(x, w, [[1], [0]]), (4, 3)),
        None,
    ),
    "axes given back in another order": ((5, 4), lambda: Apply(product_of_rows, (4, 3)), None),
}


@pytest.mark.parametrize("name", CASES)
def test_layer(name: str) -> None:
    shape, layer, wanted = CASES[name]
    model = randomized(functional(shape, layer()))
    x = np.random.default_rng(0).normal(size=(2, *(size or 6 for size in shape)))
    x = x.astype(np.float32)
    converted = onnxnorm.convert(model).model
    if wanted is not None:
        assert operators(converted) == wanted
    np.testing.assert_allclose(run(converted, [x])[0], np.asarray(model(x)), atol=1e-5)


def test_attention_is_made_of_four_transposes() -> None:
    x = tf.keras.Input((None, 8))
    model = randomized(tf.keras.Model(x, L.MultiHeadAttention(2, 3)(x, x)))
    converted = onnxnorm.convert(model).model
    found = operators(converted).split()
    assert found.count("Transpose") == 4
    assert not {"Einsum", "Gather", "ReduceProd"} & set(found)
    value = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    np.testing.assert_allclose(run(converted, [value])[0], np.asarray(model(value)), atol=1e-5)
