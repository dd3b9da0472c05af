"""Competitors take turns, and their numbers are medians and quartiles."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from onnxnorm import latency


def test_everyone_gets_the_same_turns_in_changing_order() -> None:
    calls: list[str] = []
    functions = {name: lambda name=name: calls.append(name) for name in "abc"}
    told: list[float] = []
    times = latency.measure(functions, rounds=20, advance=told.append)
    assert {name: own.shape for name, own in times.items()} == dict.fromkeys(
        "abc", (20, latency.CALLS_PER_TURN)
    )
    turn = 1 + latency.CALLS_PER_TURN
    assert Counter(calls) == dict.fromkeys("abc", 22 * turn)
    turns = calls[::turn]
    orders = {tuple(turns[start : start + 3]) for start in range(0, len(turns), 3)}
    assert all(sorted(order) == list("abc") for order in orders)
    assert len(orders) > 1
    assert told == sorted(told)
    assert told[-1] == 1


def test_timing_is_median_and_quartiles() -> None:
    found = latency.timing(np.arange(1.0, 6.0).reshape(5, 1))
    assert found == latency.Timing(3.0, 2.0, 4.0, 5)


def test_ratio_is_taken_within_a_round() -> None:
    # The machine is four times slower in the second half: the ratio does not see it.
    plain = np.array([[8.0, 8.0], [8.0, 8.0], [32.0, 32.0]])
    ours = np.array([[2.0, 2.0], [2.0, 2.0], [8.0, 8.0]])
    assert latency.times_faster(ours, plain) == pytest.approx(4)
    assert latency.times_faster(plain, plain) == 1
