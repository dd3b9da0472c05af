"""The Keras models that the pipeline trains: their names here, their builders in `models.mnist`.

This file imports no TensorFlow, so that a name can be checked before anything slow starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class ModelCard:
    """What a reader needs to know of a model without building it.

    Attributes:
        name: the key in `MODELS`, also the name of the Keras model and of its folder.
        title: one line for tables and pages.
        norm_layer: the name of the one normalization layer in the model.
        norm_class: the class of that layer, as a user writes it.
    """

    name: str
    title: str
    norm_layer: str
    norm_class: str


MODELS: Mapping[str, ModelCard] = MappingProxyType(
    {
        card.name: card
        for card in (
            ModelCard(
                "group_norm",
                "group normalization, 5 groups",
                "group_norm",
                "tfa.layers.GroupNormalization",
            ),
            ModelCard(
                "instance_norm",
                "instance normalization, random uniform gamma and beta",
                "instance_norm",
                "tfa.layers.InstanceNormalization",
            ),
            ModelCard(
                "layer_norm",
                "layer normalization over the channels",
                "layer_norm",
                "tf.keras.layers.LayerNormalization",
            ),
            ModelCard(
                "batch_norm",
                "batch normalization, the yardstick",
                "batch_norm",
                "tf.keras.layers.BatchNormalization",
            ),
            ModelCard(
                "constrained_group_norm",
                "group normalization with initializers, constraints and regularizers",
                "constrained_group_norm",
                "tfa.layers.GroupNormalization",
            ),
        )
    }
)


def build(name: str, seed: int = 0) -> tf.keras.Model:
    """A freshly initialized, uncompiled Keras model.

    Args:
        name: a key of `MODELS`.
        seed: the initial weights depend on this number and on nothing else.

    Returns:
        A model from float32 images (batch, 28, 28) in [0, 1] to float32 probabilities (batch, 10).

    Raises:
        KeyError: `name` is not in `MODELS`.
    """
    from models import mnist

    builders: Mapping[str, Any] = mnist.BUILDERS
    return builders[name](seed)
