"""Models in every precision: as near to float64 as the storage type allows, with Keras' dtypes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

tf = pytest.importorskip("tensorflow")
pytest.importorskip("onnxruntime")

import onnxnorm  # noqa: E402
from onnxnorm.graph.nodes import all_graphs  # noqa: E402
from onnxnorm.opset import DOMAIN  # noqa: E402
from tests.conversion.keras_cases import KERAS_2, functional, randomized  # noqa: E402

L = tf.keras.layers
Array = npt.NDArray[Any]

POLICIES = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64")
STORAGE = {
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float64": TensorProto.DOUBLE,
}


@contextmanager
def policy(name: str) -> Iterator[None]:
    module = tf.keras.mixed_precision if KERAS_2 else tf.keras.config
    set_policy = module.set_global_policy if KERAS_2 else module.set_dtype_policy
    set_policy(name)
    try:
        yield
    finally:
        set_policy("float32")


def storage(name: str) -> str:
    return name.removeprefix("mixed_")


def attention() -> Any:
    x = inputs = tf.keras.Input((6, 8))
    x = L.LayerNormalization()(L.Add()([x, L.MultiHeadAttention(2, 4)(x, x)]))
    return tf.keras.Model(inputs, x)


def recurrent() -> Any:
    # The default initializer of the recurrent kernel has no bfloat16.
    lstm = L.LSTM(4, recurrent_initializer="glorot_uniform")
    return functional((5, 4), lstm, L.LayerNormalization())


def embedding() -> Any:
    inputs = tf.keras.Input((5,), dtype="int32")
    return tf.keras.Model(inputs, L.LayerNormalization()(L.Embedding(7, 6)(inputs)))


MODELS: dict[str, Callable[[], Any]] = {
    "convolutions": lambda: functional(
        (9, 8, 4),
        L.Conv2D(6, 3, strides=2, padding="same"),
        L.GroupNormalization(2),
        L.ReLU(),
        L.DepthwiseConv2D(3, padding="same"),
        L.AveragePooling2D(2, padding="same"),
        L.MaxPooling2D(2),
        L.Flatten(),
    ),
    "one dimension": lambda: functional(
        (None, 4), L.Conv1D(6, 3, dilation_rate=2), L.BatchNormalization(), L.Activation("elu")
    ),
    "dense": lambda: functional(
        (8,), L.Dense(8), L.LayerNormalization(), L.Dense(3, activation="softmax")
    ),
    "attention": attention,
    "lstm": recurrent,
    "embedding": embedding,
}


def norm_types(model: onnx.ModelProto) -> set[int]:
    """Element types that the normalization nodes take."""
    inferred = onnx.shape_inference.infer_shapes(model)
    graphs = list(all_graphs(inferred.graph))
    types = {
        value.name: value.type.tensor_type.elem_type
        for graph in graphs
        for value in (*graph.value_info, *graph.input)
    }
    constants = {t.name: t.data_type for graph in graphs for t in graph.initializer}
    return {
        {**types, **constants}[name]
        for graph in graphs
        for node in graph.node
        if node.domain == DOMAIN
        for name in node.input
    }


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("policy_name", POLICIES)
def test_parity(policy_name: str, name: str) -> None:
    with policy(policy_name):
        model = randomized(MODELS[name]())
        custom = onnxnorm.convert(model).model
        native = onnxnorm.convert(model, lowering="native").model
    for form in (custom, native):
        report = onnxnorm.verify(model, form, samples=3)
        assert report, report.summary()
        (output,) = report.outputs
        assert output.dtype == storage(policy_name)
    if name != "one dimension":
        assert norm_types(custom) == {STORAGE[storage(policy_name)]}


@pytest.mark.parametrize("policy_name", ["mixed_float16", "mixed_bfloat16"])
def test_values_whose_squares_overflow(policy_name: str) -> None:
    """Group normalization of values up to 6e4, the largest that float16 holds being 65504."""
    with policy(policy_name):
        norm = L.GroupNormalization(2)
        model = randomized(functional((4, 4, 6), norm, L.Activation("linear", dtype="float32")))
        forms = [onnxnorm.convert(model, lowering=way).model for way in ("custom", "native")]
    x = np.random.default_rng(3).uniform(-6e4, 6e4, (2, 4, 4, 6)).astype(np.float32)
    stored = tf.cast(tf.cast(x, storage(policy_name)), tf.float64).numpy().reshape(2, 16, 2, 3)
    centered = stored - stored.mean((1, 3), keepdims=True)
    normal = centered / np.sqrt(np.square(centered).mean((1, 3), keepdims=True) + norm.epsilon)
    gamma, beta = (np.asarray(w).astype(np.float64) for w in (norm.gamma, norm.beta))
    expected = normal.reshape(x.shape) * gamma + beta
    for form in forms:
        (y,) = onnxnorm.InferenceSession(form).run(None, {form.graph.input[0].name: x})
        tolerance = 2.0**-10 if storage(policy_name) == "float16" else 2.0**-7
        np.testing.assert_allclose(y, expected, rtol=2 * tolerance, atol=2 * tolerance)


class OneLayer(tf.keras.Model):
    """A layer that gets its input in a dtype of the caller's choice."""

    def __init__(self, layer: Any, given: str) -> None:
        super().__init__()
        self.layer, self.given = layer, given

    def call(self, x: Any) -> Any:
        return self.layer(tf.cast(x, self.given))


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("given", ["float16", "float32", "float64", "int32"])
@pytest.mark.parametrize("own", ["float32", "mixed_float16", "mixed_bfloat16", "float64"])
def test_dtypes_at_a_layer(own: str, given: str, autocast: bool) -> None:
    model = OneLayer(L.LayerNormalization(dtype=own, autocast=autocast), given)
    x = (10 * np.random.default_rng(5).normal(size=(2, 3, 8))).astype(np.float32)
    wanted = model(x)
    if given == "int32" and not KERAS_2:
        with pytest.raises(onnxnorm.ConversionError, match="its input is int32"):
            onnxnorm.convert(model)
        return
    converted = onnxnorm.convert(model).model
    (y,) = onnxnorm.InferenceSession(converted).run(None, {converted.graph.input[0].name: x})
    assert str(y.dtype) == wanted.dtype.name == storage(own)
    rounding = {"float16": 2.0**-10, "bfloat16": 2.0**-7}.get(storage(own), 2.0**-20)
    # Keras 2 computes what it joins into one operation in the input's own half precision.
    allowed = max(rounding, 2.0**-9 if given == "float16" else 0)
    np.testing.assert_allclose(
        y.astype(np.float64), tf.cast(wanted, tf.float64), rtol=allowed, atol=allowed
    )


def test_policies_of_their_own_for_layers() -> None:
    model = randomized(
        functional(
            (6, 6, 3),
            L.Conv2D(8, 3, dtype="mixed_bfloat16"),
            L.LayerNormalization(dtype="mixed_float16"),
            L.Conv2D(4, 3, dtype="mixed_float16"),
            L.GroupNormalization(2, dtype="float32"),
            L.Dense(3, dtype="mixed_bfloat16"),
            L.Softmax(dtype="float32"),
        )
    )
    report = onnxnorm.verify(model, onnxnorm.convert(model).model)
    assert report, report.summary()
    assert report.precision == "bfloat16"


def test_bfloat16_inputs_outputs_and_weights() -> None:
    with policy("bfloat16"):
        inputs = tf.keras.Input((64,), dtype="bfloat16")
        dense = L.Dense(64)
        model = tf.keras.Model(inputs, [L.LayerNormalization()(dense(inputs)), L.ReLU()(inputs)])
        converted = onnxnorm.convert(model).model
    (weight,) = (t for t in converted.graph.initializer if list(t.dims) == [64, 64])
    assert weight.data_type == TensorProto.BFLOAT16
    graph = converted.graph
    types = {v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}
    assert types == {TensorProto.BFLOAT16}
    x = tf.cast(np.random.default_rng(0).normal(size=(3, 64)), tf.bfloat16).numpy()
    y, positive = onnxnorm.InferenceSession(converted).run(None, {graph.input[0].name: x})
    np.testing.assert_array_equal(positive, np.maximum(x, 0))
    assert y.dtype == x.dtype


def test_bfloat16_in_onnx_reference() -> None:
    with policy("mixed_bfloat16"):
        model = functional((8,), L.Dense(6), L.LayerNormalization(), L.ReLU(dtype="float32"))
        converted = onnxnorm.convert(model).model
    x = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    (y,) = ReferenceEvaluator(converted).run(None, {converted.graph.input[0].name: x})
    # Releases of onnx before 1.20 cut off where bfloat16 is rounded.
    np.testing.assert_allclose(y, model(x), atol=2.0**-4)


def test_float64_without_a_kernel_is_refused() -> None:
    with policy("float64"):
        model = functional((6, 6, 3), L.Conv2DTranspose(4, 3, name="up"), L.LayerNormalization())
        with pytest.raises(onnxnorm.ConversionError, match=r"^layer 'up': .*float64 ConvTranspose"):
            onnxnorm.convert(model)


@pytest.mark.skipif(KERAS_2, reason="policies of Keras 3")
@pytest.mark.parametrize("quantized", ["int8_from_float32", "float8_from_mixed_bfloat16"])
def test_quantized_policies_are_refused(quantized: str) -> None:
    model = functional((6, 4), L.LayerNormalization(), L.Dense(4, dtype=quantized, name="small"))
    with pytest.raises(onnxnorm.ConversionError, match=f"layer 'small': .*{quantized}"):
        onnxnorm.convert(model)
