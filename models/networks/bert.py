"""BERT-Small of KerasHub, a text classifier: Devlin et al., BERT: Pre-training of Deep
Bidirectional Transformers for Language Understanding, 2019."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from keras_hub.models import BertBackbone, BertTextClassifier
from numpy.typing import NDArray

from models.networks import draws


@dataclass(frozen=True)
class Config:
    """Size of the network.

    Attributes:
        length: tokens in a sequence.
        vocabulary: number of tokens that there are.
        blocks: transformer blocks.
    """

    length: int = 128
    vocabulary: int = 30522
    blocks: int = 4


FULL = Config()
SMALL = Config(length=12, vocabulary=50, blocks=2)


def build(config: Config) -> tf.keras.Model:
    """The network, from tokens, segments and padding mask (batch, any) to logits (batch, 2)."""
    backbone = BertBackbone(
        vocabulary_size=config.vocabulary,
        num_layers=config.blocks,
        num_heads=8,
        hidden_dim=512,
        intermediate_dim=2048,
        max_sequence_length=512,
    )
    return BertTextClassifier(backbone, num_classes=2)


def inputs(
    config: Config, batch: int, generator: np.random.Generator
) -> dict[str, NDArray[np.int32]]:
    """Random tokens, the second half of another segment, padding behind."""
    shape = (batch, config.length)
    segments = np.broadcast_to(np.arange(config.length) >= config.length // 2, shape)
    return {
        "token_ids": draws.tokens(generator, *shape, config.vocabulary),
        "segment_ids": segments.astype(np.int32),
        "padding_mask": draws.padding_mask(*shape),
    }
