"""The fuzz targets on their seeds and on a few damaged ones, wherever atheris is not."""

from __future__ import annotations

import random
import zlib

import pytest

pytest.importorskip("h5py", reason="the targets make HDF5 files")

from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_damaged_seeds(name: str) -> None:
    target = TARGETS[name]
    choice = random.Random(zlib.crc32(name.encode()))
    for seed in target.seeds():
        target.run(seed)
        for _ in range(40):
            content = bytearray(seed)
            for _ in range(choice.randrange(1, 5)):
                content[choice.randrange(len(content))] = choice.randrange(256)
            target.run(bytes(content[: choice.choice([len(content), choice.randrange(len(seed))])]))
