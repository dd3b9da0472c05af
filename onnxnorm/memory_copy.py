"""How long a copy takes: the floor of every operator that reads and writes its tensors once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

# Large against what starting the threads takes.
_BYTES_OF_A_CALL = 64 * 2**20
_MOST_COPIES = 1000
# Less is copied sooner by one thread.
_BYTES_WORTH_A_THREAD = 2**16


class MemoryCopy:
    """Copies between two buffers, in a call as often as makes its time a measure.

    The buffers are as hot in the caches as copying them leaves them. Each thread has its own part.

    Args:
        bytes_moved: what one copy moves: half of it is read, half of it is written.
        threads: so many at most.

    Attributes:
        copies: how many a call makes.
    """

    def __init__(self, bytes_moved: int, threads: int) -> None:
        size = max(1, bytes_moved // 2)
        self.copies = max(1, min(_MOST_COPIES, _BYTES_OF_A_CALL // (2 * size)))
        parts = max(1, min(threads, size // _BYTES_WORTH_A_THREAD))
        # Ones, as zeros would not be there before the first write.
        self._read = np.array_split(np.ones(size, np.uint8), parts)
        self._written = np.array_split(np.ones(size, np.uint8), parts)
        self._pool = ThreadPoolExecutor(parts)

    def __call__(self) -> None:
        list(self._pool.map(self._copy, range(len(self._read))))

    def _copy(self, part: int) -> None:
        read, written = self._read[part], self._written[part]
        for _ in range(self.copies):
            np.copyto(written, read)
