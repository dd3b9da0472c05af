"""ResNet-50 as published: the yardstick, since its batch norm folds into the convolutions."""

from __future__ import annotations

import tensorflow as tf

from models.networks import resnet50
from models.networks.resnet50 import FULL, SMALL, Config, inputs

__all__ = ["FULL", "SMALL", "build", "inputs"]


def build(config: Config) -> tf.keras.Model:
    """The network, from images (batch, size, size, 3) to probabilities (batch, 1000)."""
    return resnet50.build(
        config,
        lambda name: tf.keras.layers.BatchNormalization(epsilon=1e-5, name=name),
        "resnet50_batch_norm",
    )
