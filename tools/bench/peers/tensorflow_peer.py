"""TensorFlow: the Keras layer or network itself, as one tf.function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tools.bench import network_files, tensors
from tools.bench.cases import Layer, Network
from tools.bench.peers import Runner


def start(processors: tuple[int, ...]) -> None:
    """Sets the threads for the process."""
    # Not tools.tensorflow_setup, which asks for repeatable operations: these may be slower.
    tf.config.threading.set_intra_op_parallelism_threads(len(processors))
    tf.config.threading.set_inter_op_parallelism_threads(len(processors))


def layer(layer: Layer, form: str, files: Path) -> Runner:
    """The Keras layer in its layout."""
    runner = _function(network_files.keras_layer(layer), tensors.x(layer))
    return Runner(runner.call, lambda: np.moveaxis(runner.output(), layer.axis, -1))


def network(network: Network, form: str, files: Path) -> Runner:
    """The Keras model."""
    inputs, _ = network_files.tensors(network, files)
    return _function(network_files.keras_network(network.name), inputs)


def _function(model: Any, x: NDArray[np.float32]) -> Runner:
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(
        tf.TensorSpec(x.shape, tf.float32)
    )
    given = tf.constant(x)
    state: dict[str, Any] = {}

    def call() -> None:
        state["y"] = function(given)

    return Runner(call, lambda: state["y"].numpy())
