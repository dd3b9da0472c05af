"""ViT-Tiny/16 of KerasHub: Dosovitskiy et al., An Image is Worth 16x16 Words, 2021, in the size of
Touvron et al., Training data-efficient image transformers, 2021."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from keras_hub.models import ViTBackbone, ViTImageClassifier
from numpy.typing import NDArray

from models.networks import draws


@dataclass(frozen=True)
class Config:
    """Size of the network.

    Attributes:
        size: height and width of its images.
        blocks: transformer blocks.
    """

    size: int = 224
    blocks: int = 12


FULL = Config()
SMALL = Config(size=64, blocks=2)


def build(config: Config) -> tf.keras.Model:
    """The network, from images (batch, size, size, 3) to logits (batch, 1000)."""
    backbone = ViTBackbone(
        image_shape=(config.size, config.size, 3),
        patch_size=(16, 16),
        num_layers=config.blocks,
        num_heads=3,
        hidden_dim=192,
        mlp_dim=768,
    )
    return ViTImageClassifier(backbone, num_classes=1000)


def inputs(
    config: Config, batch: int, generator: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Random images."""
    return {"image": draws.images(generator, batch, config.size)}
