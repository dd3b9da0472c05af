"""How long competing functions take, measured so that a busy machine hurts all of them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CALLS_PER_TURN = 4


@dataclass(frozen=True)
class Timing:
    """The time of one call, in milliseconds.

    Attributes:
        median: over all timed calls.
        first_quartile: a quarter of the calls was faster.
        third_quartile: a quarter of the calls was slower.
        calls: how many were timed.
    """

    median: float
    first_quartile: float
    third_quartile: float
    calls: int


def measure(
    functions: Mapping[str, Callable[[], object]],
    rounds: int,
    advance: Callable[[float], None] = lambda done: None,
) -> dict[str, NDArray[np.float64]]:
    """Times functions in turns within one process.

    In every round each function gets one turn, in an order drawn anew: one call that is not timed,
    which brings its data back into the caches, then `CALLS_PER_TURN` that are.

    Args:
        functions: what to call, by name.
        rounds: how many turns each gets; the first tenth, at least one, is warm-up and dropped.
        advance: told the part that is done.

    Returns:
        Milliseconds, float64 (turns, CALLS_PER_TURN), by name.
    """
    generator = np.random.default_rng(0)
    names = list(functions)
    warm_up = max(1, rounds // 10)
    times: dict[str, list[list[float]]] = {name: [] for name in names}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(warm_up + rounds):
            for name in generator.permutation(names):
                times[name].append(_turn(functions[name]))
            advance((turn + 1) / (warm_up + rounds))
    finally:
        if collecting:
            gc.enable()
    return {name: np.array(turns[warm_up:]) for name, turns in times.items()}


def timing(milliseconds: NDArray[np.float64]) -> Timing:
    """Median and quartiles of all timed calls."""
    first, median, third = np.percentile(milliseconds, (25, 50, 75))
    return Timing(float(median), float(first), float(third), milliseconds.size)


def times_faster(of: NDArray[np.float64], than: NDArray[np.float64]) -> float:
    """How many times faster `of` is than `than`: the median over turns of the same round."""
    return float(np.median(np.median(than, axis=1) / np.median(of, axis=1)))


def _turn(function: Callable[[], object]) -> list[float]:
    function()
    result = []
    for _ in range(CALLS_PER_TURN):
        start = time.perf_counter()
        function()
        result.append((time.perf_counter() - start) * 1e3)
    return result
