"""Operators that tf2onnx lacks or mistakes, against TensorFlow, where their traps are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from onnxnorm.tf_ops import HANDLERS, TABLE_HANDLERS, einsum  # noqa: E402
from tests.conversion.keras_cases import functional  # noqa: E402
from tests.conversion.test_conversion import run  # noqa: E402


def normal(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


def spread(*values: float, dtype: Any = np.float32) -> npt.NDArray[Any]:
    return np.array([values], dtype)


def table(keys: list[Any], values: list[Any], default: Any) -> Any:
    """A lookup, with integers of 64 bits."""
    tensors = (
        tf.constant(given, tf.int64 if isinstance(given[0], int) else None)
        for given in (keys, values)
    )
    initializer = tf.lookup.KeyValueTensorInitializer(*tensors)
    return tf.lookup.StaticHashTable(initializer, default).lookup


@tf.function(jit_compile=True)
def grouped_convolution(x: Any) -> Any:
    """Compiled, as in Keras, since TensorFlow's own kernels have no groups."""
    return tf.nn.conv3d(x, normal(2, 2, 2, 2, 6), [1, 1, 2, 1, 1], "SAME")


def batch_norm(x: Any) -> Any:
    y, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=[2.0, 0.5, 1.0],
        offset=[0.0, 1.0, 2.0],
        mean=[9.0, 9.0, 9.0],
        variance=[9.0, 9.0, 9.0],
        exponential_avg_factor=0.01,
        is_training=True,
    )
    return y


def sparse_product(x: Any) -> Any:
    sparse = tf.SparseTensor([[0, 1], [2, 0], [2, 3]], [1.0, 2.0, -3.0], [3, 4])
    return tf.sparse.sparse_dense_matmul(sparse, x, adjoint_b=True)


def scaled(x: Any, kernel: str, antialias: bool) -> Any:
    return tf.raw_ops.ScaleAndTranslate(
        images=x,
        size=[7, 5],
        scale=[1.3, 0.4],
        translation=[-0.5, 1.0],
        kernel_type=kernel,
        antialias=antialias,
    )


def spectrum(x: Any) -> Any:
    values = tf.signal.rfft(x, [16])
    return tf.concat([tf.math.real(values), tf.math.imag(values), tf.abs(values)], -1)


CANCELLING = spread(-80, -20, -5, -1, -1e-3, -1e-7, 0, 1e-7, 1e-3, 1, 5, 20, 80)
IMAGE = normal(2, 6, 9, 3)
WORDS = np.array([["cat", "dog", "", "ü"]], object)
NUMBERS = spread(3, 5, 9, -1, dtype=np.int64)

# Operator → what is computed, and of what.
CASES: list[tuple[str, Callable[[Any], Any], npt.NDArray[Any]]] = [
    ("Erfc", tf.math.erfc, CANCELLING),
    ("Expm1", tf.math.expm1, CANCELLING),
    *(
        ("Bucketize", lambda x: tf.raw_ops.Bucketize(input=x, boundaries=[-1, 0.5, 3]), values)
        for values in (
            spread(-np.inf, -1, np.nextafter(np.float32(0.5), 0), 0.5, 2.9, 3, np.inf, np.nan),
            spread(-2, -1, 0, 1, 3, 4, dtype=np.int32),
            spread(0.5, np.nextafter(0.5, 0), dtype=np.float64),
        )
    ),
    ("Conv3D", grouped_convolution, normal(2, 3, 4, 5, 4)),
    *(
        (
            "Conv2DBackpropInput",
            lambda x, size=size: tf.nn.conv2d_transpose(
                x, normal(3, 2, 4, 3), [tf.shape(x)[0], *size, 4], 3, "VALID"
            ),
            IMAGE,
        )
        for size in ((18, 26), (20, 28))
    ),
    (
        "Conv3DBackpropInputV2",
        lambda x: tf.nn.conv3d_transpose(
            x, normal(1, 2, 2, 3, 4), [tf.shape(x)[0], 4, 8, 9, 3], [1, 2, 3, 3, 1], "VALID"
        ),
        normal(2, 2, 3, 3, 4),
    ),
    (
        "DenseBincount",
        lambda x: tf.raw_ops.DenseBincount(
            input=tf.cast(x, tf.int32), size=4, weights=x / 2, binary_output=False
        ),
        np.array([[0, 1, 1, 3], [2, 2, 2, 9]], np.float32),
    ),
    ("Einsum", lambda x: tf.einsum("...aB,bB->...ab", x, normal(2, 3)), IMAGE),
    ("Equal", lambda x: x == "dog", WORDS),
    ("NotEqual", lambda x: x != "ü", WORDS),
    ("Equal", lambda x: x == 5, NUMBERS),
    ("FusedBatchNormV3", batch_norm, IMAGE),
    ("RFFT", spectrum, normal(2, 16)),
    ("Real", spectrum, normal(2, 20)),
    ("Imag", spectrum, normal(2, 11)),
    *(
        (
            operator,
            lambda x, operator=operator, size=size, half=half: getattr(tf.raw_ops, operator)(
                images=x, size=size, half_pixel_centers=half
            ),
            IMAGE,
        )
        for operator in ("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic")
        for size in ((12, 18), (4, 12), (3, 20))
        for half in (False, True)
    ),
    ("ResizeArea", lambda x: tf.raw_ops.ResizeArea(images=x, size=[4, 20]), IMAGE),
    (
        "ResizeBicubic",
        lambda x: tf.raw_ops.ResizeBicubic(images=x, size=[4, 20]),
        (IMAGE * 9).astype(np.uint8),
    ),
    *(
        (
            "ScaleAndTranslate",
            lambda x, kernel=kernel, antialias=antialias: scaled(x, kernel, antialias),
            IMAGE,
        )
        for kernel, antialias in (("triangle", True), ("lanczos3", False), ("gaussian", True))
    ),
    ("Select", lambda x: tf.raw_ops.Select(condition=[True, False], x=x, y=-x), IMAGE),
    ("SelectV2", lambda x: tf.where(x > 0, x, np.nan), normal(2, 5)),
    ("SelectV2", lambda x: tf.where(x > 0, tf.math.log(x), 0.0), normal(2, 5)),
    ("SelectV2", lambda x: tf.where(x > 0, x > 1, x < -1), normal(2, 5)),
    ("SparseMatMul", lambda x: tf.raw_ops.SparseMatMul(a=x, b=x, transpose_b=True), normal(3, 4)),
    ("SparseTensorDenseMatMul", sparse_product, normal(5, 4)),
    ("SplitV", lambda x: tf.concat(tf.split(x, [2, -1, 1], -2)[::-1], 2), IMAGE),
    (
        "ExtractImagePatches",
        lambda x: tf.image.extract_patches(x, [1, 2, 3, 1], [1, 3, 2, 1], [1, 2, 1, 1], "SAME"),
        IMAGE,
    ),
    ("LookupTableFindV2", table(["cat", "ü"], [4, 7], -1), WORDS),
    ("LookupTableFindV2", table([3, 9], ["a", "ü"], "?"), NUMBERS),
    ("LookupTableFindV2", table([3, 9], [1, 2], 0), NUMBERS),
    ("LookupTableFindV2", table([3, 9], [0.5, 2.0], -1.0), NUMBERS),
]


# What a result near 0 may be off; the others are sums.
ABSOLUTE = {"Erfc": 2e-7, "Expm1": 0.0}


def test_every_handler_has_a_case() -> None:
    assert {operator for operator, *_ in CASES} == {*HANDLERS, *TABLE_HANDLERS}


class Apply(tf.keras.layers.Layer):
    """Any TensorFlow function as a layer."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__(name="applied", autocast=False)
        self.function = function

    def call(self, x: Any) -> Any:
        return self.function(x)


@pytest.mark.parametrize(("operator", "function", "x"), CASES, ids=[case[0] for case in CASES])
def test_handler(operator: str, function: Callable[[Any], Any], x: npt.NDArray[Any]) -> None:
    dtype = tf.string if x.dtype == object else x.dtype
    inputs = tf.keras.Input(x.shape[1:], dtype=dtype)
    model = tf.keras.Model(inputs, Apply(function)(inputs))
    expected = function(tf.constant(x)).numpy()
    (y,) = run(onnxnorm.convert(model).model, [x])
    if expected.dtype == object:
        assert y.tolist() == [[word.decode() for word in row] for row in expected]
    else:
        absolute = ABSOLUTE.get(operator, 1e-5)
        np.testing.assert_allclose(y, expected, rtol=1e-6, atol=absolute)


@pytest.mark.parametrize(
    ("equation", "ranks", "expected"),
    [
        ("ij,jk->ik", (2, 2), "ab,bc->ac"),
        ("aA,Ab->ab", (2, 2), "ab,bc->ac"),
        ("...x,xy->...y", (3, 2), "abc,cd->abd"),
        ("...i,...i->...", (3, 2), "abc,bc->ab"),
        ("i...,i->...", (1, 1), "a,a->"),
    ],
)
def test_equations_are_spelled_out(equation: str, ranks: tuple[int, ...], expected: str) -> None:
    assert einsum.spelled_out(equation, ranks) == expected


@pytest.mark.parametrize(
    ("function", "shape", "message"),
    [
        (lambda x: tf.image.resize(x, [4, 5], "bicubic"), (None, 4, 3), "size is not known"),
        (
            lambda x: tf.strings.as_string(x) == tf.strings.as_string(-x),
            (4,),
            "Equal .* of two tensors of strings",
        ),
        (lambda x: x + tf.random.normal([4]), (4,), "RandomStandardNormal.*training=False"),
        (lambda x: tf.strings.length(tf.strings.as_string(x)), (4,), "StringLength.*characters"),
    ],
)
def test_what_has_no_form_is_refused(
    function: Callable[[Any], Any], shape: tuple[int | None, ...], message: str
) -> None:
    inputs = tf.keras.Input(shape)
    model = tf.keras.Model(inputs, Apply(function)(inputs))
    with pytest.raises(onnxnorm.ConversionError, match=message) as caught:
        onnxnorm.convert(model)
    assert "layer 'applied'" in str(caught.value)


@pytest.mark.parametrize("activation", ["gelu", "elu", "selu", "swish", "softplus", "mish"])
def test_activations_behind_a_norm(activation: str) -> None:
    if not hasattr(tf.keras.activations, activation):
        pytest.skip(f"this Keras has no {activation}")
    layers = tf.keras.layers
    model = functional((6, 8), layers.LayerNormalization(), layers.Activation(activation))
    x = np.random.default_rng(0).normal(size=(2, 6, 8)).astype(np.float32)
    y = run(onnxnorm.convert(model).model, [x])[0]
    np.testing.assert_allclose(y, np.asarray(model(x)), atol=2e-6)
