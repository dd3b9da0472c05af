"""ResNet-50 of He et al., Deep Residual Learning for Image Recognition, 2016, any normalization."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.networks import draws

L = tf.keras.layers
Norm = Callable[[str], L.Layer]


@dataclass(frozen=True)
class Config:
    """Size of the network.

    Attributes:
        size: height and width of its images.
        blocks: residual blocks in each of the stages.
    """

    size: int = 224
    blocks: tuple[int, ...] = (3, 4, 6, 3)


FULL = Config()
SMALL = Config(size=64, blocks=(1, 2))


def build(config: Config, norm: Norm, name: str) -> tf.keras.Model:
    """The network, from images (batch, size, size, 3) to probabilities (batch, 1000).

    Args:
        config: its size.
        norm: makes a normalization layer of the given name.
        name: of the model.
    """
    inputs = tf.keras.Input((config.size, config.size, 3), name="image")
    x = _convolution(inputs, norm, 64, 7, 2, "stem")
    x = L.ReLU(name="stem_relu")(x)
    x = L.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    for stage, blocks in enumerate(config.blocks):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            x = _bottleneck(x, norm, 64 * 2**stage, stride, f"stage{stage + 1}_block{block + 1}")
    x = L.GlobalAveragePooling2D(name="pool")(x)
    x = L.Dense(1000, activation="softmax", name="probabilities")(x)
    return tf.keras.Model(inputs, x, name=name)


def inputs(
    config: Config, batch: int, generator: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Random images."""
    return {"image": draws.images(generator, batch, config.size)}


def _bottleneck(x: tf.Tensor, norm: Norm, filters: int, stride: int, name: str) -> tf.Tensor:
    shortcut = x
    if stride > 1 or x.shape[-1] != 4 * filters:
        shortcut = _convolution(x, norm, 4 * filters, 1, stride, f"{name}_shortcut")
    x = L.ReLU()(_convolution(x, norm, filters, 1, stride, f"{name}_1"))
    x = L.ReLU()(_convolution(x, norm, filters, 3, 1, f"{name}_2"))
    x = _convolution(x, norm, 4 * filters, 1, 1, f"{name}_3")
    return L.ReLU()(L.Add()([x, shortcut]))


def _convolution(
    x: tf.Tensor, norm: Norm, filters: int, size: int, stride: int, name: str
) -> tf.Tensor:
    # The normalization takes the mean, and with it any bias, out again.
    x = L.Conv2D(
        filters,
        size,
        stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return norm(f"{name}_norm")(x)
