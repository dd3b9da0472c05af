"""What is asked of the kernels and networks, and whether the races found it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tools.bench import contests
from tools.bench.cases import COPY
from tools.bench.results import Race, Ratio, Report

LARGE = 2**20


@dataclass(frozen=True)
class Target:
    """One line of the list.

    Attributes:
        asked: what is asked.
        measured: what was found; empty when nothing was measured.
        met: whether it is enough; None when nothing was measured.
    """

    asked: str
    measured: str
    met: bool | None


def geometric_mean(ratios: Sequence[Ratio | None]) -> float | None:
    """Of the medians; None when a ratio is missing, as it would be of other cases then."""
    if not ratios or any(ratio is None for ratio in ratios):
        return None
    return float(np.exp(np.mean([np.log(ratio.median) for ratio in ratios if ratio])))


def all_of(report: Report) -> list[Target]:
    """Every target, met or not."""
    threads = sorted({race.threads for race in report.races})
    return [
        target
        for count in threads
        for part in (_operators, _epilogues, _networks)
        for target in part(report, count)
    ]


def over_torch(race: Race) -> Ratio | None:
    """Our time to that of PyTorch in the better of its layouts."""
    return race.ratio(contests.OURS, race.fastest(contests.TORCH.values()))


def _operators(report: Report, threads: int) -> Iterator[Target]:
    races = [race for race in report.of("operator") if race.threads == threads]
    if not races:
        return
    where = f"operators, {in_words(threads)}"
    large = [race for race in races if race.bytes > LARGE]
    yield _at_most(f"{where}: no slower than PyTorch", races, over_torch, 1)
    than = _inverted(geometric_mean([over_torch(race) for race in races]))
    yield _mean(f"{where}: geometric mean at least 1.4 times as fast as PyTorch", than, 1.4)
    asked = f"{where}: at most 1.6 times a copy (tensors above 1 MB)"
    yield _at_most(asked, large, lambda race: race.ratio(contests.OURS, COPY), 1.6)
    than = geometric_mean([race.ratio(contests.PLAIN, contests.OURS) for race in races])
    yield _mean(f"{where}: geometric mean at least 10 times as fast as plain tf2onnx", than, 10)
    for stored in (contests.FLOAT16, contests.BFLOAT16):
        asked = f"{where}: {stored.removeprefix('ours ')} no slower than float32"
        yield _at_most(asked, races, lambda race, of=stored: race.ratio(of, contests.OURS), 1)


def _epilogues(report: Report, threads: int) -> Iterator[Target]:
    for race in report.of("epilogue"):
        if race.threads == threads:
            costs = {
                label: race.ratio(label, contests.OURS)
                for label in race.entries
                if label not in (contests.OURS, COPY)
            }
            asked = f"{race.subject}, {race.layout}, {in_words(threads)}: each epilogue below 10 %"
            yield _limit(asked, costs, 1.1)


def _networks(report: Report, threads: int) -> Iterator[Target]:
    for race in report.of("network"):
        if race.threads != threads:
            continue
        name, where = race.subject.partition(",")[0], f"{race.subject}, {in_words(threads)}"
        norm = race.fastest(contests.BATCH_NORM)
        if name == contests.RESNET:
            for form, limit in ((contests.OPTIMIZED, 1.2), (contests.THIS_CPU, 1.1)):
                asked = f"{where}: {form} at most {limit:.2f} times batch norm"
                yield _limit(asked, {"": race.ratio(form, norm)}, limit)
            torch = race.fastest(contests.TORCH.values())
            for other, factor in ((contests.PLAIN, 2.5), (torch, 1.3), (contests.OPENVINO, 1.3)):
                told = "PyTorch" if other == torch else other
                for form in (contests.OPTIMIZED, contests.THIS_CPU):
                    asked = f"{where}: {form} at least {factor} times as fast as {told}"
                    yield _faster(asked, race.ratio(other, form), factor, race.ratio(other, norm))
        elif name in contests.MNIST_GROUP_NORMS:
            asked = f"{where}: at least 3 times as fast as plain tf2onnx"
            bound = race.ratio(contests.PLAIN, norm)
            yield _faster(asked, race.ratio(contests.PLAIN, contests.OPTIMIZED), 3, bound)
    for share in report.shares:
        if share.threads == threads:
            where = f"{share.network}, {share.form}, {in_words(threads)}"
            yield Target(
                f"{where}: norms at most 10 % of the time", f"{share.norms:.1%}", share.norms <= 0.1
            )


def _at_most(
    asked: str, races: Sequence[Race], ratio: Callable[[Race], Ratio | None], limit: float
) -> Target:
    return _limit(asked, {f"{r.subject} {r.layout}": ratio(r) for r in races}, limit)


def _limit(asked: str, ratios: dict[str, Ratio | None], limit: float) -> Target:
    """Every median at most so large; those that are not are named, the largest first."""
    known = {label: ratio for label, ratio in ratios.items() if ratio}
    if not known or len(known) < len(ratios):
        return Target(asked, "", None)
    beyond = sorted(
        ((ratio, label) for label, ratio in known.items() if ratio.median > limit),
        key=lambda entry: -entry[0].median,
    )
    if not beyond:
        worst = max(known, key=lambda label: known[label].median)
        return Target(asked, f"{known[worst]} {worst}".strip(), True)
    told = "; ".join(f"{ratio} {label}".strip() for ratio, label in beyond)
    count = f"{len(beyond)} of {len(known)} beyond: " if len(known) > 1 else ""
    return Target(asked, count + told, False)


def _faster(asked: str, ratio: Ratio | None, factor: float, bound: Ratio | None) -> Target:
    """`bound` is how much faster the network is with batch norm."""
    if ratio is None:
        return Target(asked, "", None)
    told = f"; with batch norm {bound}" if bound else ""
    return Target(asked, f"{ratio}{told}", ratio.median >= factor)


def _mean(asked: str, factor: float | None, wanted: float) -> Target:
    if factor is None:
        return Target(asked, "", None)
    return Target(asked, f"{factor:.2f}", factor >= wanted)


def _inverted(value: float | None) -> float | None:
    return None if value is None else 1 / value


def in_words(count: int) -> str:
    """A number of threads."""
    return f"{count} thread" if count == 1 else f"{count} threads"
