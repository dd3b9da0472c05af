"""A character model of two LSTM layers with layer norm: Ba et al., Layer Normalization, 2016."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa
from numpy.typing import NDArray

from models.networks import draws

L = tf.keras.layers
CHARACTERS = 96


@dataclass(frozen=True)
class Config:
    """Size of the network.

    Attributes:
        length: characters in a sequence.
        units: of each layer.
    """

    length: int = 100
    units: int = 256


FULL = Config()
SMALL = Config(length=7, units=16)


def build(config: Config) -> tf.keras.Model:
    """The network, from characters (batch, length) to logits of the next (batch, length, 96)."""
    inputs = tf.keras.Input((config.length,), dtype="int32", name="characters")
    x = L.Embedding(CHARACTERS, 64, name="embedding")(inputs)
    for index in range(2):
        cell = tfa.rnn.LayerNormLSTMCell(config.units, name=f"cell{index}")
        x = L.RNN(cell, return_sequences=True, name=f"recurrent{index}")(x)
    return tf.keras.Model(inputs, L.Dense(CHARACTERS, name="next")(x), name="layer_norm_lstm")


def inputs(
    config: Config, batch: int, generator: np.random.Generator
) -> dict[str, NDArray[np.int32]]:
    """Random characters."""
    return {"characters": draws.tokens(generator, batch, config.length, CHARACTERS)}
