"""Records of batch normalizations against the nodes of the converted model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from onnxnorm.graph.nodes import all_graphs  # noqa: E402
from tests.conversion.keras_cases import KERAS_2, L, functional, randomized  # noqa: E402


def batch(name: str = "bn", **arguments: Any) -> Any:
    return L.BatchNormalization(name=name, **arguments)


class InALoop(tf.keras.Model):  # type: ignore[misc] # untyped
    def __init__(self) -> None:
        super().__init__()
        self.norm = batch()

    def build(self, input_shape: Any) -> None:
        self.norm.build((None, input_shape[-1]))
        super().build(input_shape)

    def call(self, x: Any) -> Any:
        def step(count: Any, y: Any) -> Any:
            return count + 1, self.norm(y)

        start = (tf.constant(0), x[:, 0])
        return tf.while_loop(lambda count, _: count < tf.shape(x)[1], step, start)[1]


def in_a_loop() -> Any:
    model = InALoop()
    model(np.zeros((2, 3, 4), np.float32))
    return model


def shared() -> Any:
    norm, x = batch(), tf.keras.Input((8, 8, 4))
    return tf.keras.Model(x, norm(L.ReLU()(norm(L.Conv2D(4, 3, padding="same")(x)))))


def of_one_name() -> Any:
    inner = [tf.keras.Sequential([L.ReLU(), batch()], name=name) for name in ("a", "b")]
    return functional((8, 8, 4), L.Conv2D(4, 3), *inner)


# Whether each batch normalization goes into weights in Keras 2, and in Keras 3, where tf2onnx is
# given a multiplication and an addition and joins neither to a convolution.
CASES: dict[str, tuple[Callable[[], Any], int, int]] = {
    "behind a convolution": (lambda: functional((8, 8, 4), L.Conv2D(4, 3), batch()), 1, 0),
    "behind a depthwise one": (
        lambda: functional((8, 8, 4), L.DepthwiseConv2D(3), batch()),
        1,
        0,
    ),
    "before a convolution": (lambda: functional((8, 8, 4), batch(), L.Conv2D(4, 3)), 0, 0),
    "alone": (lambda: functional((8, 8, 4), batch()), 0, 0),
    "alone, without parameters": (
        lambda: functional((5,), batch(scale=False, center=False)),
        *(0, 0),
    ),
    "behind an activation": (
        lambda: functional((8, 8, 4), L.Conv2D(4, 3), L.ReLU(), batch()),
        *(0, 0),
    ),
    "behind a dense layer": (lambda: functional((5,), L.Dense(4), batch()), 0, 0),
    "in a loop": (in_a_loop, 0, 0),
    "called twice": (shared, 0, 0),
    "two of one name": (of_one_name, 0, 0),
    "in time": (lambda: functional((3, 4), L.TimeDistributed(batch())), 0, 0),
}


@pytest.mark.parametrize("lowering", ["custom", "native"])
@pytest.mark.parametrize("name", CASES)
def test_folded_is_what_went_into_weights(name: str, lowering: Any) -> None:
    build, *folded_in = CASES[name]
    result = onnxnorm.convert(randomized(build()), lowering=lowering)
    nodes = {n.name: n.op_type for g in all_graphs(result.model.graph) for n in g.node}
    folded = [record for record in result.layers if record.lowering == "folded"]
    assert len(folded) == folded_in[0 if KERAS_2 else 1]
    for record in folded:
        assert "part of the weights of '" in record.reason
        assert record.reason.split("'")[1] in nodes
    standing = [record for record in result.layers if record.lowering == "native"]
    assert len(folded) + len(standing) == len(result.layers)
    for record in standing:
        assert {nodes[node] for node in record.nodes} & {"BatchNormalization", "Mul", "Add"}
    named = [node for record in standing for node in record.nodes]
    assert len(named) == len(set(named))
    batch_nodes = {node for node, kind in nodes.items() if kind == "BatchNormalization"}
    assert batch_nodes <= set(named)
    assert onnxnorm.inspect(result.model).problems == ()
