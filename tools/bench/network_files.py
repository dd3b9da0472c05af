"""ONNX files of layers and networks, with inputs and what has to come out, made beside TensorFlow.

TensorFlow is imported by functions that need it: the peers that do not have it read the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools import environment, tensorflow_setup
from tools.bench import tensors as layer_tensors
from tools.bench.cases import EPSILON, Layer, Network

PLAIN, NATIVE, CUSTOM, OPTIMIZED, THIS_CPU = "plain", "native", "custom", "optimized", "this_cpu"
OURS = (CUSTOM, OPTIMIZED, THIS_CPU)
_MNIST = "mnist_"


def write_layers(folder: Path, layers: Sequence[Layer]) -> None:
    """What tf2onnx and `onnxnorm.convert(lowering="native")` make of Keras layers."""
    import onnx

    import onnxnorm
    from tools.steps.export import OPSET, plain

    tensorflow_setup.start(environment.available_cores())
    for layer in layers:
        model = keras_layer(layer)
        onnx.save(plain(model), folder / layer.file(PLAIN))
        onnxnorm.convert(model, lowering="native", opset=OPSET).save(folder / layer.file(NATIVE))


def write_network(folder: Path, name: str, batches: Sequence[int]) -> None:
    """Every form of a network; random inputs and the float64 oracle's outputs; the weights."""
    import onnx

    import onnxnorm
    from onnxnorm.parity import oracle, subject
    from tools.steps.export import OPSET, plain

    tensorflow_setup.start(environment.available_cores())
    own = folder / name
    own.mkdir(exist_ok=True)
    model = keras_network(name)
    onnx.save(plain(model), own / f"{PLAIN}.onnx")
    onnxnorm.convert(model, lowering="native", opset=OPSET).save(own / f"{NATIVE}.onnx")
    custom = onnxnorm.convert(model, opset=OPSET).model
    onnx.save(custom, own / f"{CUSTOM}.onnx")
    onnx.save(onnxnorm.optimize(custom), own / f"{OPTIMIZED}.onnx")
    onnx.save(onnxnorm.optimize(custom, this_cpu=True), own / f"{THIS_CPU}.onnx")
    weights = {weight.name: weight.numpy() for weight in model.weights}
    np.savez(own / "weights.npz", **weights)
    function = subject.trace(model).function
    for batch in batches:
        x = _inputs(name, batch)
        (found,) = oracle.evaluate(function, [x]).outputs
        np.savez(own / f"{batch}.npz", x=x, y=found)


def tensors(network: Network, files: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Inputs and the oracle's outputs."""
    with np.load(files / network.folder / f"{network.batch}.npz") as held:
        return held["x"], held["y"]


def weights(network: Network, files: Path) -> dict[str, NDArray[np.float32]]:
    """By Keras' names."""
    with np.load(files / network.folder / "weights.npz") as held:
        return dict(held)


def keras_layer(layer: Layer) -> Any:
    """A model that is the layer in Keras, or TensorFlow Addons."""
    import tensorflow as tf

    from models.networks.normalization import group_norm, instance_norm

    options = {"axis": layer.axis, "epsilon": EPSILON, "name": "norm"}
    if layer.norm == "group":
        made = group_norm(layer.groups, **options)
    elif layer.norm == "instance":
        made = instance_norm(**options)
    else:
        made = tf.keras.layers.LayerNormalization(**options)
    inputs = tf.keras.Input(layer.stored_shape[1:], name="x")
    model = tf.keras.Model(inputs, made(inputs))
    made.set_weights([layer_tensors.scale(layer), layer_tensors.bias(layer)])
    return model


def keras_network(name: str) -> Any:
    """The network with random weights, the same in every process."""
    if name.startswith(_MNIST):
        import models

        return models.build(name.removeprefix(_MNIST))
    from models.networks import NETWORKS

    return NETWORKS[name].build()


def _inputs(name: str, batch: int) -> NDArray[np.float32]:
    if name.startswith(_MNIST):
        return np.random.default_rng(0).uniform(0, 1, (batch, 28, 28)).astype(np.float32)
    from models.networks import NETWORKS

    (x,) = NETWORKS[name].inputs(batch).values()
    return np.asarray(x)
