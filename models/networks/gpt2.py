"""GPT-2 of KerasHub, a language model: Radford et al., Language Models are Unsupervised Multitask
Learners, 2019."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from keras_hub.models import GPT2Backbone, GPT2CausalLM
from numpy.typing import NDArray

from models.networks import draws


@dataclass(frozen=True)
class Config:
    """Size of the network.

    Attributes:
        length: tokens in a sequence.
        vocabulary: number of tokens that there are.
        blocks: transformer blocks.
        width: of a token's vector.
    """

    length: int = 128
    vocabulary: int = 50257
    blocks: int = 6
    width: int = 384


FULL = Config()
SMALL = Config(length=12, vocabulary=50, blocks=2, width=96)


def build(config: Config) -> tf.keras.Model:
    """The network, from tokens and padding mask (batch, any) to logits (batch, any, vocabulary)."""
    backbone = GPT2Backbone(
        vocabulary_size=config.vocabulary,
        num_layers=config.blocks,
        num_heads=6,
        hidden_dim=config.width,
        intermediate_dim=4 * config.width,
        max_sequence_length=1024,
    )
    return GPT2CausalLM(backbone)


def inputs(
    config: Config, batch: int, generator: np.random.Generator
) -> dict[str, NDArray[np.int32]]:
    """Random tokens, padding behind."""
    shape = (batch, config.length)
    return {
        "token_ids": draws.tokens(generator, *shape, config.vocabulary),
        "padding_mask": draws.padding_mask(*shape),
    }
