"""ConvNeXt-Tiny of keras.applications: Liu et al., A ConvNet for the 2020s, 2022."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

# The public ConvNeXtTiny is this function with the sizes of FULL.
from keras.src.applications.convnext import ConvNeXt
from numpy.typing import NDArray

from models.networks import draws


@dataclass(frozen=True)
class Config:
    """Size of the network.

    Attributes:
        size: height and width of its images.
        blocks: in each of the stages.
        channels: the same.
    """

    size: int = 224
    blocks: tuple[int, ...] = (3, 3, 9, 3)
    channels: tuple[int, ...] = (96, 192, 384, 768)


FULL = Config()
SMALL = Config(size=32, blocks=(1, 1, 2, 1), channels=(16, 24, 32, 40))


def build(config: Config) -> tf.keras.Model:
    """The network, from images (batch, size, size, 3) to probabilities (batch, 1000)."""
    return ConvNeXt(
        depths=config.blocks,
        projection_dims=config.channels,
        input_shape=(config.size, config.size, 3),
    )


def inputs(
    config: Config, batch: int, generator: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Random images, as the preprocessing inside the network takes them."""
    return {"image": draws.images(generator, batch, config.size, top=255)}
