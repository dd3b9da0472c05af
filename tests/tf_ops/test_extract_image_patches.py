"""Patches of images, as `tf.image.extract_patches` orders them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from tests.conversion.keras_cases import functional  # noqa: E402
from tests.conversion.test_conversion import run  # noqa: E402

FORMS = {
    "one of one": ((1, 1), (1, 1), (1, 1)),
    "side by side": ((2, 3), (2, 3), (1, 1)),
    "overlapping": ((3, 2), (1, 2), (1, 1)),
    "with gaps": ((2, 2), (3, 4), (1, 1)),
    "dilated": ((3, 2), (2, 1), (2, 3)),
    "larger than the image": ((9, 9), (1, 1), (1, 1)),
}


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("static", [True, False])
def test_patches(form: str, padding: str, static: bool) -> None:
    if padding == "VALID" and form == "larger than the image":
        pytest.skip("TensorFlow refuses it")

    def patches(x: Any) -> Any:
        kernel, strides, rates = ((1, *pair, 1) for pair in FORMS[form])
        return tf.image.extract_patches(x, kernel, strides, rates, padding)

    x = np.random.default_rng(3).normal(size=(3, 8, 7, 2)).astype(np.float32)
    x[0, 0, 0, 0], x[1, 3, 3, 1] = np.nan, np.inf
    model = functional((8, 7, 2) if static else (None, None, 2), tf.keras.layers.Lambda(patches))
    session_model = onnxnorm.convert(model).model
    for batch in (x, x[:1], x[:0]):
        (found,) = run(session_model, [batch])
        np.testing.assert_array_equal(found, patches(batch).numpy())


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "float64", "uint8", "uint16"])
def test_every_value_stays_as_it_is(dtype: str) -> None:
    def patches(x: Any) -> Any:
        return tf.image.extract_patches(x, [1, 2, 2, 1], [1, 1, 1, 1], [1, 1, 1, 1], "SAME")

    limits = np.finfo(dtype) if dtype.startswith("f") else np.iinfo(dtype)
    x = np.array([limits.max, limits.max - 1, 3, 4, 5, 6], dtype).reshape(1, 3, 2, 1)
    inputs = tf.keras.Input((None, None, 1), dtype=dtype)
    outputs = tf.keras.layers.Lambda(patches, dtype=dtype)(inputs)
    (found,) = run(onnxnorm.convert(tf.keras.Model(inputs, outputs)).model, [x])
    np.testing.assert_array_equal(found, patches(x).numpy())
