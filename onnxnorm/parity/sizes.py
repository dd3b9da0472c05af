"""Sizes for the dimensions of inputs that neither the Keras model nor the ONNX file states."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnxnorm.errors import VerificationError

MOST_TRIES = 160
"""How many combinations of sizes are tried before the comparison is given up."""

# Positions of one sample, all unknown dimensions of an input together: larger inputs are tried
# only on demand, since what the model makes of them may not fit into memory.
_MOST_POSITIONS = 2**18
_DOUBLED = (8, 16, 32, 64)
_DOUBLED_ON = (128, 256, 512, 1024, 2048, 4096)
# Whatever a model wants its sizes to be modulo 32, each of these ranges has it.
_RANGES = (range(33, 64), range(97, 128), range(225, 256))
_OTHERS = (1, 2, 3, 4, 5, 6, 7, 160, 168, 192, 224, 240, 320, 420, 8192, 16384)
_MOST_HINTS = 24
_LEAST_HINT = 5


@dataclass(frozen=True)
class Dimension:
    """One dimension of unknown size.

    Attributes:
        input: name of the input.
        axis: its position in the input's shape; 0 is the batch.
        name: its name in the ONNX file; empty where it has none.
    """

    input: str
    axis: int
    name: str = ""

    def __str__(self) -> str:
        return f"{self.input}:{self.axis}"


Sizes = Mapping[Dimension, int]


def given(dimensions: Sequence[Dimension], sizes: Mapping[str, int]) -> dict[Dimension, int]:
    """The sizes that the caller names.

    Args:
        dimensions: every dimension of unknown size.
        sizes: sizes by ``input:axis``, or by a dimension's name in the ONNX file, which holds for
            every dimension of that name; ``input:axis`` counts where both are given.

    Raises:
        VerificationError: no unknown dimension has such a name.
    """
    by_position = {str(dimension) for dimension in dimensions}
    found: dict[Dimension, int] = {}
    for name, size in sorted(sizes.items(), key=lambda item: item[0] in by_position):
        named = [d for d in dimensions if name in (str(d), d.name)]
        if not named:
            known = ", ".join(map(_told, dimensions)) or "none: every size is stated"
            raise VerificationError(
                f"sizes: the model has no unknown dimension {name!r}; it has {known}"
            )
        found |= dict.fromkeys(named, size)
    return found


def tries(dimensions: Sequence[Dimension], hints: Iterable[int] = ()) -> Iterator[Sizes]:
    """Combinations of sizes, the likely ones first; the same for the same dimensions.

    Dimensions of one name in the ONNX file always have one size.

    Args:
        dimensions: those of unknown size, without batches and without those the caller named.
        hints: sizes that the model itself speaks of.
    """
    groups = list({d.name or str(d): None for d in dimensions})
    seen: set[tuple[int, ...]] = set()
    for combination in _combinations(dimensions, groups, hints):
        sizes = {d: combination[groups.index(d.name or str(d))] for d in dimensions}
        if combination in seen or not _fits(sizes):
            continue
        seen.add(combination)
        yield sizes
        if len(seen) == MOST_TRIES:
            return


def _combinations(
    dimensions: Sequence[Dimension], groups: Sequence[str], hints: Iterable[int]
) -> Iterator[tuple[int, ...]]:
    new = (size for size in hints if size >= _LEAST_HINT and size not in _DOUBLED)
    same = [*_DOUBLED, *itertools.islice(new, _MOST_HINTS), *_DOUBLED_ON]
    yield from ((size,) * len(groups) for size in same)
    if len(groups) > 1:
        yield from _unequal(dimensions, groups)
    yield from ((size,) * len(groups) for size in itertools.chain(*_RANGES, _OTHERS))


def _unequal(dimensions: Sequence[Dimension], groups: Sequence[str]) -> Iterator[tuple[int, ...]]:
    """One group or one input of another size than all others; inputs each of half the size."""
    inputs = list(dict.fromkeys(d.input for d in dimensions))
    of_input = {g: inputs.index(d.input) for d in dimensions for g in [d.name or str(d)]}
    apart = [{group} for group in groups]
    apart += [{g for g in groups if of_input[g] == index} for index in range(len(inputs))]
    for larger, smaller in itertools.combinations(reversed(_DOUBLED), 2):
        for some in apart:
            yield tuple(larger if group in some else smaller for group in groups)
            yield tuple(smaller if group in some else larger for group in groups)
    for size in (32, 64, 128):
        levels = [max(1, size >> of_input[group]) for group in groups]
        yield tuple(levels)
        yield tuple(max(1, size >> (len(inputs) - 1 - of_input[group])) for group in groups)


def _fits(sizes: Sizes) -> bool:
    positions: dict[str, int] = {}
    for dimension, size in sizes.items():
        positions[dimension.input] = positions.get(dimension.input, 1) * size
    return max(positions.values(), default=1) <= _MOST_POSITIONS


def _told(dimension: Dimension) -> str:
    return f"{dimension} ({dimension.name})" if dimension.name else str(dimension)
