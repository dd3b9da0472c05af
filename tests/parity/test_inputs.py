"""Inputs: what is drawn, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxnorm.errors import VerificationError
from onnxnorm.parity.inputs import InputSpec, draw, named, take

IMAGE = InputSpec("image", (None, 4, 4), "float32")
TOKENS = InputSpec("tokens", (None, None), "int32")
SPECS = (IMAGE, TOKENS)
GOOD = {"image": np.zeros((2, 4, 4), np.float32), "tokens": np.zeros((2, 7), np.int32)}


def test_drawn_shapes_dtypes_and_ranges() -> None:
    image, tokens = draw((IMAGE, replace(TOKENS, limit=5)), samples=64, seed=1)
    assert (image.shape, image.dtype, tokens.shape, tokens.dtype) == (
        (64, 4, 4),
        np.float32,
        (64, 8),
        np.int32,
    )
    assert abs(image.mean()) < 0.2
    assert 0.9 < image.std() < 1.1
    assert set(tokens.flat) == {0, 1, 2, 3, 4}


def test_drawn_kinds() -> None:
    flags, indices, plain, words, numbers = draw(
        [
            InputSpec("flags", (None, 3), "bool"),
            InputSpec("indices", (None, 3), "float32", integral=True),
            InputSpec("plain", (2, 3), "int64"),
            InputSpec("words", (None,), "string", choices=("a", "bc")),
            InputSpec("numbers", (None,), "int64", choices=(7, -9)),
        ],
        samples=32,
        seed=0,
    )
    assert flags.dtype == np.bool_
    assert indices.dtype == np.float32
    assert set(indices.flat) == {0.0, 1.0}
    assert plain.shape == (2, 3)
    assert words.dtype == object
    assert set(words) == {"a", "bc"}
    assert numbers.dtype == np.int64
    assert set(numbers) == {7, -9}


def test_the_seed_decides() -> None:
    first, again, other = (draw(SPECS, 4, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    ("spec", "samples", "says"),
    [
        (InputSpec("words", (None,), "string"), 4, "'words' holds string"),
        (InputSpec("x", None, "float32"), 4, "'x' has an unknown rank"),
        (IMAGE, 0, "samples=0"),
    ],
)
def test_what_cannot_be_drawn(spec: InputSpec, samples: int, says: str) -> None:
    with pytest.raises(VerificationError, match=says):
        draw([spec], samples, 0)


@pytest.mark.parametrize(
    "given", [GOOD, list(GOOD.values()), tuple(GOOD.values()), dict(reversed(GOOD.items()))]
)
def test_given_in_any_structure(given: Any) -> None:
    image, tokens = take(given, SPECS)
    assert (image.shape, tokens.shape) == ((2, 4, 4), (2, 7))


@pytest.mark.parametrize("by_name", [True, False])
def test_given_in_a_file(tmp_path: Path, by_name: bool) -> None:
    path = tmp_path / "inputs.npz"
    if by_name:
        np.savez(path, **GOOD)
    else:
        np.savez(path, *GOOD.values())
    assert [a.shape for a in take(named(path), SPECS)] == [(2, 4, 4), (2, 7)]
    assert [a.shape for a in take(named(str(path)), SPECS)] == [(2, 4, 4), (2, 7)]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"image": GOOD["image"]}, r"missing \['tokens'\]; the model takes \['image', 'tokens'\]"),
        ({**GOOD, "mask": 0}, r"unknown \['mask'\]"),
        ([GOOD["image"]], "1 given, the model takes 2"),
        ({**GOOD, "image": GOOD["image"].astype(np.float64)}, "'image' is float64.*float32"),
        ({**GOOD, "image": np.array("a")}, "'image' is string"),
        ({**GOOD, "image": np.zeros((2, 4, 5), np.float32)}, r"\[2, 4, 5\].*\['any', 4, 4\]"),
        ({**GOOD, "image": np.zeros((2, 4), np.float32)}, r"\[2, 4\].*\['any', 4, 4\]"),
        ({**GOOD, "tokens": np.zeros((3, 7), np.int32)}, "number of samples"),
        ({k: v[:0] for k, v in GOOD.items()}, "is empty"),
    ],
)
def test_given_wrongly(given: Any, says: str) -> None:
    with pytest.raises(VerificationError, match=says):
        take(given, SPECS)


def test_files_that_are_no_arrays(tmp_path: Path) -> None:
    path = tmp_path / "inputs.npz"
    with pytest.raises(VerificationError, match="no such file"):
        named(path)
    path.write_bytes(b"not an archive")
    with pytest.raises(VerificationError, match=r"not an \.npz file"):
        named(path)
    np.savez(path, image=GOOD["image"])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(VerificationError, match=r"inputs\.npz"):
        named(path)
    np.savez(path, image=np.array([{}], dtype=object))
    with pytest.raises(VerificationError, match="cannot be read as arrays"):
        named(path)
    np.savez(path)
    with pytest.raises(VerificationError, match="holds no array"):
        named(path)
