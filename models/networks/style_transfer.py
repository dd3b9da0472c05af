"""The image transformation network of fast style transfer, with instance norm.

Johnson, Alahi and Fei-Fei, Perceptual Losses for Real-Time Style Transfer and Super-Resolution,
2016, table 1 of the supplementary material; instance for batch norm as in Ulyanov, Vedaldi and
Lempitsky, Instance Normalization: The Missing Ingredient for Fast Stylization, 2016.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.networks import draws
from models.networks.normalization import instance_norm

L = tf.keras.layers


@dataclass(frozen=True)
class Config:
    """Size of the network.

    Attributes:
        size: height and width of its images, a multiple of 4.
        blocks: residual blocks.
    """

    size: int = 256
    blocks: int = 5


FULL = Config()
SMALL = Config(size=32, blocks=2)


class ReflectionPadding(L.Layer):
    """Mirrors an image at its borders: (batch, h, w, c) to (batch, h + 2 width, w + 2 width, c)."""

    def __init__(self, width: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.width = width

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """The padded image."""
        around = [self.width, self.width]
        return tf.pad(x, [[0, 0], around, around, [0, 0]], "REFLECT")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Shape of the padded image."""
        batch, *sizes, channels = input_shape
        return (batch, *(size and size + 2 * self.width for size in sizes), channels)


def build(config: Config) -> tf.keras.Model:
    """The network, from images (batch, size, size, 3) to images in [0, 255] of the same shape."""
    inputs = tf.keras.Input((config.size, config.size, 3), name="image")
    # Each residual block takes 2 pixels off each side, at a quarter of the resolution.
    x = ReflectionPadding(8 * config.blocks, name="padding")(inputs)
    for index, (filters, kernel, stride) in enumerate(((32, 9, 1), (64, 3, 2), (128, 3, 2))):
        x = L.Conv2D(filters, kernel, stride, padding="same", name=f"down{index}")(x)
        x = L.ReLU()(instance_norm(epsilon=1e-5, name=f"down{index}_norm")(x))
    for index in range(config.blocks):
        x = _residual(x, f"residual{index}")
    for index, filters in enumerate((64, 32)):
        x = L.Conv2DTranspose(filters, 3, 2, padding="same", name=f"up{index}")(x)
        x = L.ReLU()(instance_norm(epsilon=1e-5, name=f"up{index}_norm")(x))
    x = L.Conv2D(3, 9, padding="same", activation="tanh", name="paint")(x)
    return tf.keras.Model(
        inputs, L.Rescaling(127.5, 127.5, name="styled")(x), name="style_transfer"
    )


def inputs(
    config: Config, batch: int, generator: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Random images."""
    return {"image": draws.images(generator, batch, config.size, top=255)}


def _residual(x: tf.Tensor, name: str) -> tf.Tensor:
    y = L.Conv2D(128, 3, name=f"{name}_1")(x)
    y = L.ReLU()(instance_norm(epsilon=1e-5, name=f"{name}_1_norm")(y))
    y = L.Conv2D(128, 3, name=f"{name}_2")(y)
    y = instance_norm(epsilon=1e-5, name=f"{name}_2_norm")(y)
    return L.Add()([y, L.Cropping2D(2)(x)])
