"""CoAtNet-0 of keras_cv_attention_models: Dai et al., CoAtNet: Marrying Convolution and Attention
for All Data Sizes, 2021."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from keras_cv_attention_models.coatnet import CoAtNet
from numpy.typing import NDArray

from models.networks import draws


@dataclass(frozen=True)
class Config:
    """Size of the network.

    Attributes:
        size: height and width of its images.
        blocks: blocks in each of the stages, two of convolutions and two of attention.
    """

    size: int = 224
    blocks: tuple[int, ...] = (2, 3, 5, 2)


FULL = Config()
SMALL = Config(size=64, blocks=(1, 1, 1, 1))


def build(config: Config) -> tf.keras.Model:
    """The network, from images (batch, size, size, 3) to probabilities (batch, 1000)."""
    return CoAtNet(
        num_blocks=list(config.blocks),
        out_channels=[96, 192, 384, 768],
        input_shape=(config.size, config.size, 3),
        pretrained=None,
    )


def inputs(
    config: Config, batch: int, generator: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Random images."""
    return {"image": draws.images(generator, batch, config.size)}
