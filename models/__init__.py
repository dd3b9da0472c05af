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

# The name of the normalization layer in every one of the models.
NORM_LAYER = "normalization"


@dataclass(frozen=True)
class ModelCard:
    """What a reader needs to know of a model without building it.

    Attributes:
        name: the key in `MODELS`, also the name of the Keras model and of its folder.
        title: one line for tables and pages.
        norm_class: the class of its normalization layer, as a user writes it.
        learning_rate: of Adam, at its start. Where gamma starts at 1 the 6760 inputs of the first
            dense layer are of size 1 and want small steps; where it starts near 0, larger ones.
    """

    name: str
    title: str
    norm_class: str
    learning_rate: float


MODELS: Mapping[str, ModelCard] = MappingProxyType(
    {
        card.name: card
        for card in (
            ModelCard(
                "group_norm",
                "group normalization, 5 groups",
                "tfa.layers.GroupNormalization",
                1e-3,
            ),
            ModelCard(
                "instance_norm",
                "instance normalization, random uniform gamma and beta",
                "tfa.layers.InstanceNormalization",
                2e-3,
            ),
            ModelCard(
                "layer_norm",
                "layer normalization over the channels",
                "tf.keras.layers.LayerNormalization",
                1e-3,
            ),
            ModelCard(
                "batch_norm",
                "batch normalization, the yardstick",
                "tf.keras.layers.BatchNormalization",
                1e-3,
            ),
            ModelCard(
                "constrained_group_norm",
                "group normalization with initializers, constraints and regularizers",
                "tfa.layers.GroupNormalization",
                1e-3,
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
