"""Swin-V2-Tiny, window 8, of keras_cv_attention_models: Liu et al., Swin Transformer V2, 2022."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from keras_cv_attention_models.swin_transformer_v2 import SwinTransformerV2
from numpy.typing import NDArray

from models.networks import draws


@dataclass(frozen=True)
class Config:
    """Size of the network.

    Attributes:
        size: height and width of its images.
        blocks: transformer blocks in each of the stages.
        window: height and width of the windows that attention stays in.
    """

    size: int = 256
    blocks: tuple[int, ...] = (2, 2, 6, 2)
    window: int = 8


FULL = Config()
SMALL = Config(size=32, blocks=(2, 1), window=4)


def build(config: Config) -> tf.keras.Model:
    """The network, from images (batch, size, size, 3) to probabilities (batch, 1000)."""
    return SwinTransformerV2(
        num_blocks=list(config.blocks),
        input_shape=(config.size, config.size, 3),
        window_size=config.window,
        pretrained=None,
    )


def inputs(
    config: Config, batch: int, generator: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Random images."""
    return {"image": draws.images(generator, batch, config.size)}
