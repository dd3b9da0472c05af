"""Sizes of unknown dimensions: which are tried, and what is said where none serves."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxnorm
from onnxnorm.errors import VerificationError
from onnxnorm.parity import processor
from onnxnorm.parity.sizes import Dimension, given, tries

tf = pytest.importorskip("tensorflow")

L = tf.keras.layers


class Does(L.Layer):  # type: ignore[misc] # untyped base
    """What a function of tensors does."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def call(self, *inputs: Any) -> Any:
        return self.function(*inputs)


class Positions(L.Layer):  # type: ignore[misc] # untyped base
    """Adds a table with one row for each position."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(name="table", shape=(self.length, int(shape[-1])))

    def call(self, x: Any) -> Any:
        return x + self.table[: tf.shape(x)[1]]


def chain(shape: tuple[int | None, ...], *layers: Any) -> Any:
    x = y = tf.keras.Input(shape, name="x")
    for layer in (*layers, L.LayerNormalization()):
        y = layer(y)
    return tf.keras.Model(x, y)


def joined(shapes: dict[str, tuple[int | None, ...]], join: Callable[..., Any]) -> Any:
    inputs = [tf.keras.Input(shape, name=name) for name, shape in shapes.items()]
    return tf.keras.Model(inputs, L.LayerNormalization()(join(*inputs)))


def unet() -> Any:
    x = y = tf.keras.Input((None, None, 3), name="x")
    skips = []
    for _ in range(4):
        y = L.Conv2D(4, 3, padding="same")(y)
        skips.append(y)
        y = L.MaxPooling2D()(y)
    for skip in reversed(skips):
        y = L.Concatenate()([L.UpSampling2D()(y), skip])
    return tf.keras.Model(x, L.LayerNormalization()(y))


def valid_unet() -> Any:
    """One whose sizes are 4 more than multiples of 8: 8 * n + 4 leaves no rest in its halves."""
    x = tf.keras.Input((None, None, 1), name="x")
    a = L.Conv2D(4, 3)(L.Conv2D(4, 3)(x))
    b = L.Conv2D(4, 3)(L.Conv2D(4, 3)(L.MaxPooling2D()(a)))
    up = L.Conv2DTranspose(4, 2, strides=2)(b)
    return tf.keras.Model(x, L.LayerNormalization()(L.Concatenate()([up, L.Cropping2D(4)(a)])))


IMAGE = (None, None, 3)
SERVE = {
    "any size": (lambda: chain((None, 3), L.Dense(4)), {"x:1": 8}),
    "long kernels": (lambda: chain((None, 3), L.Conv1D(4, 15), L.Conv1D(4, 9)), {"x:1": 32}),
    "strides": (
        lambda: chain(
            IMAGE, *(L.Conv2D(4, 7, strides=2), L.MaxPooling2D(), L.Conv2D(4, 3), L.Conv2D(4, 3))
        ),
        {"x:1": 32, "x:2": 32},
    ),
    "empty until the mean": (
        lambda: chain((None, 3), L.Conv1D(4, 11), L.GlobalAveragePooling1D()),
        {"x:1": 16},
    ),
    "volumes": (
        lambda: chain((None, None, None, 2), L.Conv3D(4, 9)),
        {"x:1": 16, "x:2": 16, "x:3": 16},
    ),
    "halves that meet again": (unet, {"x:1": 16, "x:2": 16}),
    "halves without padding": (valid_unet, None),
    "patches": (lambda: chain(IMAGE, L.Conv2D(4, 16, strides=16)), {"x:1": 16, "x:2": 16}),
    "odd sizes": (
        lambda: chain((None, 3), Does(lambda x: tf.reshape(x[:, 1:], (tf.shape(x)[0], -1, 6)))),
        {"x:1": 33},
    ),
    "a shape of fixed size": (
        lambda: chain((None,), Does(lambda x: tf.reshape(x, (-1, 28, 28, 1)))),
        {"x:1": 784},
    ),
    "few positions": (lambda: chain((None, 3), Positions(5)), {"x:1": 5}),
    "padding by reflection": (
        lambda: chain((None, 3), Does(lambda x: tf.pad(x, [[0, 0], [20, 20], [0, 0]], "REFLECT"))),
        {"x:1": 32},
    ),
    "inputs of one size": (
        lambda: joined({"a": (None, 3), "b": (None, 3)}, lambda a, b: L.Add()([a, b])),
        {"a:1": 8, "b:1": 8},
    ),
    "an input of half the size": (
        lambda: joined(
            {"a": (None, 3), "b": (None, 3)},
            lambda a, b: L.Concatenate()([L.MaxPooling1D()(a), b]),
        ),
        None,
    ),
    "always empty in part": (
        lambda: chain((None, 3), Does(lambda x: tf.concat([x, x[:, :, 3:]], 2))),
        {"x:1": 8},
    ),
}


@pytest.mark.parametrize("name", SERVE)
def test_a_right_model_passes_and_a_wrong_one_fails(name: str) -> None:
    build, sizes = SERVE[name]
    model = build()
    converted = onnxnorm.convert(model).model
    report = onnxnorm.verify(model, converted)
    assert report, report.summary()
    if sizes is not None:
        assert report.sizes == sizes
    assert all(f"{name} = {size}" in report.notes[0] for name, size in report.sizes.items())
    assert not onnxnorm.verify(model, _with_other_bias(converted))


def _with_other_bias(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    node = [node for node in changed.graph.node if node.domain == "onnxnorm"][-1]
    bias = next(tensor for tensor in changed.graph.initializer if tensor.name == node.input[2])
    values = numpy_helper.to_array(bias)
    bias.CopyFrom(numpy_helper.from_array(values + np.float32(0.01), bias.name))
    return changed


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda x: x[:, :0], r"returns no element.*--size x:1=N"),
        (lambda x: tf.math.log(-1 - tf.abs(x)), "no finite number.*--size x:1=N"),
        (lambda x: tf.ensure_shape(x, (None, 20011, 3)), "cannot be computed.*--size x:1=N"),
    ],
)
def test_what_cannot_be_judged(function: Callable[..., Any], says: str) -> None:
    model = chain((None, 3), L.Dense(3))
    last = Does(function)(model.output)
    model = tf.keras.Model(model.input, last)
    with pytest.raises(VerificationError, match=says) as caught:
        onnxnorm.verify(model, onnxnorm.convert(model).model)
    assert "\n" not in str(caught.value)


def test_named_sizes_are_the_ones_drawn() -> None:
    model = chain(IMAGE, L.Conv2D(4, 3))
    converted = onnxnorm.convert(model).model
    report = onnxnorm.verify(model, converted, samples=3, sizes={"x:1": 5, "x:2": 11})
    assert report
    assert report.inputs[0].shape == (3, 5, 11, 3)
    assert report.sizes == {"x:1": 5, "x:2": 11}
    in_file = converted.graph.input[0].type.tensor_type.shape.dim[2].dim_param
    assert onnxnorm.verify(model, converted, sizes={in_file: 11}).inputs[0].shape[2] == 11
    for sizes, says in (
        ({"x:3": 5}, "no unknown dimension 'x:3'.*x:1"),
        ({"y:1": 5}, "no unknown dimension 'y:1'"),
        ({"x:1": 2**40}, "more than 268435456 elements.*fewer samples"),
        ({"x:1": 1}, "cannot be computed.*--size x:1=N --size x:2=N"),
        ({"x:1": 1, "x:2": 9}, "cannot be computed.*--size x:1=N --size x:2=N"),
    ):
        with pytest.raises(VerificationError, match=says):
            onnxnorm.verify(model, converted, sizes=sizes)
    with pytest.raises(VerificationError, match="have their own"):
        onnxnorm.verify(model, converted, np.ones((2, 5, 5, 3), np.float32), sizes={"x:1": 5})


def test_a_file_that_fails_where_keras_computes_is_not_in_parity() -> None:
    model = chain((None, 3), Does(lambda x: tf.reshape(x, (-1, 6))))
    converted = onnxnorm.convert(model).model
    shape = next(
        tensor
        for tensor in converted.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT64 and 6 in numpy_helper.to_array(tensor)
    )
    shape.CopyFrom(numpy_helper.from_array(np.array([5, -1]), shape.name))
    report = onnxnorm.verify(model, converted)
    assert not report
    assert "ONNX Runtime fails: node" in report.outputs[0].reason
    assert "ONNXRuntimeError" not in str(report)


def test_a_file_that_takes_other_inputs_cannot_be_compared() -> None:
    model = chain((4, 3), L.Dense(3))
    other = onnxnorm.convert(chain((5, 3), L.Dense(3))).model
    with pytest.raises(VerificationError, match=r"takes input 'x' as float32 .*\[16, 4, 3\]"):
        onnxnorm.verify(model, other)


def test_dimensions_of_one_name_have_one_size() -> None:
    dimensions = [Dimension("a", 1, "length"), Dimension("b", 1, "length"), Dimension("b", 2)]
    for sizes in tries(dimensions):
        assert sizes[dimensions[0]] == sizes[dimensions[1]]
    assert given(dimensions, {"length": 5, "b:1": 6}) == dict(zip(dimensions, (5, 6), strict=False))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 12])
def test_tries_are_few_distinct_and_small(count: int) -> None:
    dimensions = [Dimension("x", axis + 1) for axis in range(count)]
    found = [tuple(sizes.values()) for sizes in tries(dimensions, [9, 784])]
    assert len(found) == len(set(found))
    assert 1 <= len(found) <= 160
    assert found == [tuple(sizes.values()) for sizes in tries(dimensions, [9, 784])]
    assert all(int(np.prod(sizes)) <= 2**18 for sizes in found)


LIMITS = (
    "The Conv2D op currently only supports the NHWC tensor format on the CPU.",
    "Conv2DCustomBackpropInputOp only supports NHWC.",
    "Conv3DBackpropInputOpV2 only supports NDHWC on the CPU.",
    "CPU implementation of Conv3D currently only supports the NHWC tensor format.",
    "Current CPU implementations do not yet support dilation rates larger than 1.",
    "Current CPU implementation does not yet support dilation rates larger than 1",
    "Default MaxPoolingOp only supports NHWC on device type CPU",
)


def test_limits_of_the_processor_are_told_from_wrong_sizes() -> None:
    assert all(map(processor.is_limit, LIMITS))
    assert not processor.is_limit("Dimension 1 in both shapes must be equal, but are 8 and 4")
    assert not processor.is_limit("assertion failed: [only images of size 4 are supported]")


NO_KERNEL = """
import onnxnorm
import tensorflow as tf

x = tf.keras.Input((None, 3), name="x")
y = tf.keras.layers.Conv1DTranspose(4, 3, dilation_rate=2)(x)
model = tf.keras.Model(x, tf.keras.layers.LayerNormalization()(y))
try:
    print(onnxnorm.verify(model, onnxnorm.convert(model).model).passed)
except onnxnorm.VerificationError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("onednn", "says"),
    [
        ("0", "cannot be computed by Keras on this processor: .* set .*TF_ENABLE_ONEDNN_OPTS=1"),
        ("1", "^True$"),
    ],
)
def test_what_to_set_where_keras_cannot_compute(onednn: str, says: str) -> None:
    package = str(Path(onnxnorm.__file__).parents[1])
    environment = {"PYTHONPATH": os.pathsep.join([package, *sys.path[1:]])}
    done = subprocess.run(
        [sys.executable, "-c", NO_KERNEL],
        env={**os.environ, **environment, "TF_ENABLE_ONEDNN_OPTS": onednn},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(says, done.stdout.splitlines()[-1])


def test_the_first_tries_grow() -> None:
    first = itertools.islice(tries([Dimension("x", 1)]), 4)
    assert [next(iter(sizes.values())) for sizes in first] == [8, 16, 32, 64]
