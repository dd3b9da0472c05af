"""Complex numbers and Fourier transforms against TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from tests.conversion.test_conversion import run  # noqa: E402
from tests.tf_ops.test_handlers import Apply, normal  # noqa: E402

FILTER = normal(4, 5) + 1j * normal(5, 4).T


def two(x: Any) -> Any:
    """A complex tensor of two parts that differ."""
    return tf.complex(x, x * x + 1)


def one(x: Any) -> Any:
    """A complex tensor without an imaginary part."""
    return tf.cast(x, tf.complex64)


def parts(x: Any) -> Any:
    return tf.concat([tf.math.real(x), tf.math.imag(x), tf.abs(x)], -1)


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: tf.math.real(tf.signal.fft2d(one(x))), (6, 8)),
        (lambda x: tf.math.real(tf.signal.fft2d(one(x))), (None, 8)),
        (lambda x: parts(tf.signal.fft(two(x))), (6, 7)),
        (lambda x: parts(tf.signal.ifft(two(x))), (6, None)),
        (lambda x: parts(tf.signal.ifft2d(two(x))), (6, 7)),
        (lambda x: parts(tf.signal.fft3d(two(x))), (6, 7, 3)),
        (lambda x: parts(tf.signal.ifft3d(two(x))), (2, 7, 3)),
        (lambda x: parts(tf.signal.rfft2d(x, [4, 9])), (6, 7)),
        (lambda x: parts(tf.signal.rfft3d(x)), (6, 7, 3)),
        (lambda x: tf.signal.irfft(tf.signal.rfft(x)), (None,)),
        (lambda x: tf.signal.irfft(two(x), [9]), (6, 7)),
        (lambda x: tf.signal.irfft2d(two(x), [5, 8]), (6, 7)),
        (lambda x: tf.signal.irfft3d(two(x)), (6, 7, 4)),
        (lambda x: tf.signal.irfft2d(tf.signal.rfft2d(x) * tf.constant(FILTER)), (4, 8)),
        (lambda x: parts(tf.signal.fftshift(tf.signal.fft2d(one(x)), axes=[1, 2])), (6, 7)),
        (lambda x: parts(tf.transpose(tf.signal.fft(tf.transpose(two(x))))), (6, 7)),
        (lambda x: tf.signal.inverse_stft(tf.signal.stft(x, 16, 8), 16, 8), (64,)),
        (lambda x: parts(tf.exp(one(x) / two(x)) * tf.math.conj(two(x)) - 1j), (6, 7)),
        (lambda x: parts(tf.matmul(two(x), two(-x), adjoint_b=True)), (6, 7)),
        (lambda x: tf.math.angle(tf.square(two(x))), (6, 7)),
        (lambda x: tf.cast(tf.signal.ifft(tf.signal.fft(one(x))), tf.float32), (8,)),
    ],
)
def test_complex_numbers_are_pairs_of_real_ones(
    function: Callable[[Any], Any], shape: tuple[int | None, ...]
) -> None:
    x = normal(2, *(9 if size is None else size for size in shape))
    inputs = tf.keras.Input(shape)
    model = tf.keras.Model(inputs, Apply(function)(inputs))
    (y,) = run(onnxnorm.convert(model).model, [x])
    expected = function(tf.constant(x)).numpy()
    # Results of a transform are sums, the small ones of large terms.
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: tf.math.real(tf.math.tan(two(x))), "layer 'applied': .*Tan .* of complex"),
        (lambda x: tf.signal.fft(two(x)), "output .* is complex"),
    ],
)
def test_what_has_no_form_in_real_numbers_is_refused(
    function: Callable[[Any], Any], message: str
) -> None:
    inputs = tf.keras.Input((4,))
    model = tf.keras.Model(inputs, Apply(function)(inputs))
    with pytest.raises(onnxnorm.ConversionError, match=message):
        onnxnorm.convert(model)
