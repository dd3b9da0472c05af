"""ResNet-50 with group norm for batch norm, 32 groups: Wu and He, Group Normalization, 2018."""

from __future__ import annotations

import tensorflow as tf

from models.networks import resnet50
from models.networks.normalization import group_norm
from models.networks.resnet50 import FULL, SMALL, Config, inputs

__all__ = ["FULL", "SMALL", "build", "inputs"]


def build(config: Config) -> tf.keras.Model:
    """The network, from images (batch, size, size, 3) to probabilities (batch, 1000)."""
    return resnet50.build(
        config, lambda name: group_norm(32, epsilon=1e-5, name=name), "resnet50_group_norm"
    )
