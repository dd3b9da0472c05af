"""Random inputs of the kinds that the networks take."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def images(
    generator: np.random.Generator, batch: int, size: int, top: float = 1.0
) -> NDArray[np.float32]:
    """Noise, float32 (batch, size, size, 3) from 0 to ``top``."""
    return generator.uniform(0, top, (batch, size, size, 3)).astype(np.float32)


def tokens(
    generator: np.random.Generator, batch: int, length: int, vocabulary: int
) -> NDArray[np.int32]:
    """Token ids, int32 (batch, length)."""
    return generator.integers(0, vocabulary, (batch, length), np.int32)


def padding_mask(batch: int, length: int) -> NDArray[np.int32]:
    """Ones for tokens, zeros for the padding behind, int32 (batch, length): a quarter or less."""
    used = length - np.arange(batch) % (length // 4) - length // 8
    return (np.arange(length) < used[:, None]).astype(np.int32)
