"""Dilated convolutions of images and sequences of unknown size are one node of ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from tests.conversion.keras_cases import functional, randomized  # noqa: E402
from tests.conversion.test_conversion import run  # noqa: E402

L = tf.keras.layers

LAYERS = {
    "sequence": (1, lambda p: L.Conv1D(6, 3, padding=p, dilation_rate=2)),
    "sequence, 3": (1, lambda p: L.Conv1D(6, 2, padding=p, dilation_rate=3)),
    "image": (2, lambda p: L.Conv2D(6, 3, padding=p, dilation_rate=2)),
    "image, unequal": (2, lambda p: L.Conv2D(6, (2, 3), padding=p, dilation_rate=(3, 2))),
    "each channel": (2, lambda p: L.DepthwiseConv2D(3, padding=p, dilation_rate=2)),
}


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("name", LAYERS)
def test_one_node(name: str, padding: str) -> None:
    axes, make = LAYERS[name]
    check(make(padding), axes)


def test_causal() -> None:
    check(L.Conv1D(6, 3, padding="causal", dilation_rate=4), 1)


def check(layer: Any, axes: int) -> None:
    model = randomized(functional((*[None] * axes, 4), layer))
    converted = onnxnorm.convert(model).model
    operators = [node.op_type for node in converted.graph.node]
    assert operators.count("Conv") == 1
    assert len(operators) <= 7
    rng = np.random.default_rng(3)
    for batch, size in ((2, 9), (1, 10), (3, 13)):
        x = rng.normal(size=(batch, *[size + axis for axis in range(axes)], 4)).astype(np.float32)
        (found,) = run(converted, [x])
        np.testing.assert_allclose(found, model(x).numpy(), rtol=1e-5, atol=1e-5)
