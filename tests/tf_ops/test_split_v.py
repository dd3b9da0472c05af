"""Pieces of given sizes, one of which may be all that is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from tests.conversion.keras_cases import functional  # noqa: E402
from tests.conversion.test_conversion import run  # noqa: E402


@pytest.mark.parametrize("opset", [15, 18, 21])
@pytest.mark.parametrize("axis", [1, -1, 2])
@pytest.mark.parametrize("sizes", [[2, -1], [-1, 2], [1, -1, 3], [2, 0, -1]])
@pytest.mark.parametrize("static", [True, False])
def test_split(static: bool, sizes: list[int], axis: int, opset: int) -> None:
    def pieces(x: Any) -> Any:
        return [2 * piece for piece in tf.split(x, sizes, axis)]

    shape = (6, 7, 5) if static else (None, None, None)
    x = np.random.default_rng(3).normal(size=(2, 6, 7, 5)).astype(np.float32)
    model = functional(shape, tf.keras.layers.Lambda(pieces))
    found = run(onnxnorm.convert(model, opset=opset).model, [x])
    for own, wanted in zip(found, tf.split(x, sizes, axis), strict=True):
        np.testing.assert_array_equal(own, 2 * wanted.numpy())


def test_a_computed_axis_is_refused_by_its_layer() -> None:
    def pieces(x: Any) -> Any:
        axis = tf.cast(tf.reduce_max(x) * 0, tf.int32) + 1
        return tf.raw_ops.SplitV(value=x, size_splits=[2, 4], axis=axis, num_split=2)[0] + 0.0

    layer = tf.keras.layers.Lambda(pieces, output_shape=(2, 6), name="mine")
    with pytest.raises(onnxnorm.ConversionError, match=r"layer 'mine': .*along a computed axis"):
        onnxnorm.convert(functional((6, 6), layer))
