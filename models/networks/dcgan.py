"""The generator of DCGAN, with instance norm for its batch norm.

Radford, Metz and Chintala, Unsupervised Representation Learning with Deep Convolutional
Generative Adversarial Networks, 2016, figure 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.networks.normalization import instance_norm

L = tf.keras.layers
CODE = 100


@dataclass(frozen=True)
class Config:
    """Size of the network.

    Attributes:
        filters: of the projected code and of each transposed convolution but the last.
    """

    filters: tuple[int, ...] = (1024, 512, 256, 128)


FULL = Config()
SMALL = Config(filters=(64, 32, 16))


def build(config: Config) -> tf.keras.Model:
    """The network, from codes (batch, 100) to images (batch, 64, 64, 3) in [-1, 1]."""
    normal = tf.keras.initializers.RandomNormal
    inputs = tf.keras.Input((CODE,), name="code")
    first, *others = config.filters
    x = L.Dense(4 * 4 * first, kernel_initializer=normal(stddev=0.02), name="project")(inputs)
    x = L.Reshape((4, 4, first))(x)
    x = L.ReLU()(instance_norm(name="project_norm")(x))
    for index, filters in enumerate(others):
        x = _upsampling(filters, normal(stddev=0.02), name=f"up{index}")(x)
        x = L.ReLU()(instance_norm(name=f"up{index}_norm")(x))
    x = _upsampling(3, normal(stddev=0.02), activation="tanh", name="image")(x)
    return tf.keras.Model(inputs, x, name="dcgan")


def inputs(
    config: Config, batch: int, generator: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Random codes, uniform as in the paper."""
    return {"code": generator.uniform(-1, 1, (batch, CODE)).astype(np.float32)}


def _upsampling(
    filters: int, initializer: tf.keras.initializers.Initializer, **kwargs: object
) -> L.Layer:
    return L.Conv2DTranspose(
        filters, 5, 2, padding="same", kernel_initializer=initializer, **kwargs
    )
