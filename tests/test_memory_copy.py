from __future__ import annotations

import numpy as np
import pytest

from onnxnorm.memory_copy import MemoryCopy


@pytest.mark.parametrize("bytes_moved", [1, 1000, 2 * 2**20 + 6])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_byte_is_copied(bytes_moved: int, threads: int) -> None:
    copy = MemoryCopy(bytes_moved, threads)
    for part in copy._written:
        part[:] = 0
    copy()
    assert sum(part.size for part in copy._written) == max(1, bytes_moved // 2)
    assert all(np.array_equal(*parts) for parts in zip(copy._read, copy._written, strict=True))
    assert len(copy._written) == (threads if bytes_moved > 2**20 else 1)


def test_small_copies_are_many_and_large_ones_few() -> None:
    assert MemoryCopy(1, 1).copies > MemoryCopy(2**20, 1).copies > MemoryCopy(2**28, 1).copies == 1
