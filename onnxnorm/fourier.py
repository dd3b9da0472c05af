"""TensorFlow's discrete Fourier transforms as products with Fourier matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxnorm.errors import ConversionError

TRANSFORMS = frozenset(
    f"{kind}FFT{axes}" for kind in ("", "I", "R", "IR") for axes in ("", "2D", "3D")
)


def transform(tf: Any, op: Any, inputs: list[Any]) -> Any:
    """A transform over one or more axes, the last of them by half of its frequencies if real.

    Args:
        tf: the ``tensorflow`` module.
        op: the operation.
        inputs: its inputs; complex ones as pairs, the imaginary part None where it is zero.

    Returns:
        A pair of the real and imaginary part, or one tensor for ``IRFFT`` and its kind.

    Raises:
        ConversionError: the rank is not known.
    """
    kind, _, suffix = op.type.partition("FFT")
    x, *others = inputs
    parts = x if isinstance(x, tuple) else (x, None)
    rank = parts[0].shape.rank
    if rank is None:
        raise ConversionError(
            f"TensorFlow operator {op.type} ({op.name}) of a tensor of unknown rank; give the "
            "model's input a shape"
        )
    axes = range(rank - int(suffix[:1] or 1), rank)
    # Without a length, that of the axis.
    lengths: list[Any] = [None] * len(axes)
    if others:
        static = tf.get_static_value(others[0])
        lengths = [
            tf.cast(others[0][i], tf.int64) if static is None else int(static[i])
            for i in range(len(axes))
        ]
    if kind == "IR":
        for axis, length in zip(axes[:-1], lengths[:-1], strict=True):
            parts = _along(tf, parts, axis, length, "I")
        return _along(tf, parts, axes[-1], lengths[-1], "IR")[0]
    order = list(zip(axes, lengths, strict=True))[::-1]
    for position, (axis, length) in enumerate(order):
        # Only the first of the axes is one of real numbers.
        parts = _along(tf, parts, axis, length, kind if position == 0 or kind == "I" else "")
    return parts


def _along(tf: Any, parts: Any, axis: int, length: Any, kind: str) -> Any:
    """The transform along one axis, which is cut or filled with zeros to the length."""
    real, imag = parts
    size = real.shape[axis]
    if size is None:
        size = tf.shape(real, out_type=tf.int64)[axis]
    if length is None:
        length = size
    cosine, sine = _matrices(tf, size, length, kind, real.dtype)
    to_last = [*(n for n in range(real.shape.rank) if n != axis), axis]

    def product(x: Any, matrix: Any) -> Any:
        if axis == real.shape.rank - 1:
            return tf.matmul(x, matrix)
        if axis == real.shape.rank - 2:
            return tf.matmul(matrix, x, transpose_a=True)
        y = tf.matmul(tf.transpose(x, to_last), matrix)
        return tf.transpose(y, np.argsort(to_last))

    if real.shape.rank == 1:
        vectors = tuple(None if x is None else x[tf.newaxis] for x in parts)
        return tuple(None if y is None else y[0] for y in _along(tf, vectors, 1, length, kind))
    if imag is None:
        return product(real, cosine), product(real, sine)
    y = product(real, cosine) - product(imag, sine)
    return (y, None) if kind == "IR" else (y, product(real, sine) + product(imag, cosine))


def _matrices(tf: Any, size: Any, length: Any, kind: str, dtype: Any) -> tuple[Any, Any]:
    """The real and the imaginary part of the matrix [size, results].

    Its rows from ``length`` on are zero. With sizes that only the run knows it is made by the
    model.
    """
    known = isinstance(size, int) and isinstance(length, int)
    # float64 where the numbers are computed here, once.
    element = tf.float64 if known else dtype
    whole = tf.int64
    size, length = tf.cast(size, whole), tf.cast(length, whole)
    half = length // 2 + 1
    rows = tf.range(size)
    columns = tf.range(half if kind == "R" else length)
    steps = (rows[:, tf.newaxis] * columns) % length
    # Angles from -pi to pi have the smallest rounding error.
    steps -= tf.where(2 * steps > length, length, tf.zeros_like(length))
    angles = tf.cast(steps, element) * (2 * np.pi) / tf.cast(length, element)
    weights = tf.cast(rows < (half if kind == "IR" else length), element)
    if kind == "IR":
        # All frequencies but the first and the middle one stand for their mirror images too.
        single = tf.equal(rows, 0) | tf.equal(2 * rows, length)
        weights *= tf.where(single, tf.ones([], element), tf.constant(2, element))
    if "I" in kind:
        weights /= tf.cast(length, element)
    sign = 1 if "I" in kind else -1
    found = (weights[:, tf.newaxis] * f(angles) for f in (tf.cos, lambda a: sign * tf.sin(a)))
    cosine, sine = found
    if known:
        with tf.compat.v1.Session(graph=cosine.graph) as session:
            cosine, sine = session.run([cosine, sine])
        cosine, sine = (tf.constant(value, dtype) for value in (cosine, sine))
    return cosine, sine
