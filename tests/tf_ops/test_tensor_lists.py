"""TensorArrays outside of loops against TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from tests.conversion.test_conversion import run  # noqa: E402
from tests.tf_ops.test_handlers import Apply, normal  # noqa: E402


def array(size: int, **options: Any) -> Any:
    return tf.TensorArray(tf.float32, size, clear_after_read=False, **options)


def written(x: Any, indices: list[int], size: int = 3, **options: Any) -> Any:
    values = array(size, **options)
    for index in indices:
        values = values.write(index, x * (index + 1))
    return values


def unstacked(x: Any) -> Any:
    return array(4).unstack(tf.transpose(x))


CASES: dict[str, Callable[[Any], Any]] = {
    "stacked": lambda x: written(x, [0, 1, 2]).stack(),
    "in another order": lambda x: written(x, [2, 0, 1, 0]).stack(),
    "growing": lambda x: written(x, [0, 1, 2], 0, dynamic_size=True).stack(),
    "with a hole": lambda x: written(tf.ensure_shape(x, [2, 4]), [1]).stack(),
    "read": lambda x: tf.stack([unstacked(x).read(2), unstacked(x).read(0)]),
    "read at a computed index": lambda x: unstacked(x).read(tf.argmax(x[0], output_type=tf.int32)),
    "gathered": lambda x: unstacked(x).gather([3, 1]),
    "written over": lambda x: unstacked(x).write(1, x[:, 0] * 5).stack(),
    "concatenated": lambda x: written(
        x, [0, 1], 2, infer_shape=False, element_shape=[None, 4]
    ).concat(),
    "scattered": lambda x: array(4).scatter([3, 0, 1, 2], tf.transpose(x)).stack(),
    "sizes": lambda x: x * tf.cast(written(x, [0]).size(), tf.float32),
}


def model(function: Callable[[Any], Any]) -> Any:
    inputs = tf.keras.Input((4,))
    return tf.keras.Model(inputs, Apply(tf.function(function))(inputs))


@pytest.mark.parametrize("function", CASES.values(), ids=CASES)
def test_lists_outside_of_loops_are_their_tensors(function: Callable[[Any], Any]) -> None:
    x = normal(2, 4)
    (y,) = run(onnxnorm.convert(model(function)).model, [x])
    np.testing.assert_array_equal(y, tf.function(function)(x).numpy())


def test_a_list_of_computed_size_is_refused_by_its_layer() -> None:
    def function(x: Any) -> Any:
        size = tf.cast(tf.reduce_sum(x), tf.int32)
        return array(size).write(size - 1, x).stack()

    with pytest.raises(onnxnorm.ConversionError, match="layer 'applied'"):
        onnxnorm.convert(model(function))


@pytest.mark.skipif(not hasattr(tf.keras, "ops"), reason="Keras 3 has them")
def test_loops_of_keras() -> None:
    ops = tf.keras.ops
    x = normal(2, 4)
    for function in (
        lambda x: ops.map(lambda v: v * v + 1, x),
        lambda x: ops.vectorized_map(lambda v: v * v + 1, x),
        lambda x: ops.fori_loop(0, 3, lambda i, v: v * 2 + ops.cast(i, "float32"), x),
        lambda x: ops.while_loop(lambda v: ops.max(v) < 50, lambda v: (v * 2 + 1,), (x,))[0],
    ):
        (y,) = run(onnxnorm.convert(model(function)).model, [x])
        np.testing.assert_allclose(y, function(tf.constant(x)).numpy(), rtol=1e-6)


@pytest.mark.skipif(not hasattr(tf.keras, "ops"), reason="Keras 3 has it")
def test_scan_of_keras_is_refused_by_its_layer() -> None:
    def function(x: Any) -> Any:
        zeros = tf.zeros_like(x[:, 0])
        return tf.keras.ops.scan(lambda c, v: (c + v, c * v), zeros, tf.transpose(x))[1]

    with pytest.raises(onnxnorm.ConversionError, match="layer 'applied': the loop"):
        onnxnorm.convert(model(function))
