"""The pictures of the page, each inline SVG."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from tools.bench import contests, targets
from tools.bench.cases import BYTES, COPY, FIRST, LAST, SERIES
from tools.bench.results import Race, Report
from tools.figures import FAINT, STYLE, svg

_COLORS = {
    COPY: FAINT,
    contests.OURS: "#12805c",
    contests.OURS_IN[LAST]: "#12805c",
    contests.OURS_IN[FIRST]: "#3d78b8",
    contests.FLOAT16: "#3d78b8",
    contests.BFLOAT16: "#8a5fb0",
    contests.TORCH[LAST]: "#d98324",
    contests.TORCH[FIRST]: "#b8433d",
}
_MARKERS = dict(zip((contests.OURS, contests.FLOAT16, contests.BFLOAT16), "os^", strict=True))
# Mean 1, squared deviations 3, normalization 2, scale and bias fused or not 2.
_OPERATIONS = 8


@dataclass(frozen=True)
class Picture:
    """An SVG and what it shows."""

    title: str
    svg: str


def all_of(report: Report) -> list[Picture]:
    """Every picture that there is something for."""
    with mpl.rc_context(STYLE):
        return list(_pictures(report))


def _pictures(report: Report) -> Iterator[Picture]:
    for threads in sorted({race.threads for race in report.races}):
        where = targets.in_words(threads)
        kinds = [kind for kind in SERIES if _of(report, kind, threads)]
        if kinds:
            title = "How the time grows: milliseconds, medians and quartiles"
            yield Picture(f"{title}, {where}", _series(report, kinds, threads))
        if races := _of(report, "operator", threads):
            yield Picture(
                f"Roofline, {targets.in_words(threads)}", _roofline(report, races, threads)
            )
    if scaling := _scaling(report):
        yield Picture("How many times as fast with all threads as with the fewest", scaling)


def _of(report: Report, kind: str, threads: int) -> list[Race]:
    return [race for race in report.of(kind) if race.threads == threads]


def _series(report: Report, kinds: list[str], threads: int) -> str:
    lines = -(-len(kinds) // 3)
    figure = Figure(figsize=(13, 3.6 * lines))
    for index, kind in enumerate(kinds):
        panel = figure.add_subplot(lines, 3, index + 1)
        races = sorted(_of(report, kind, threads), key=lambda race: race.x)
        for label in races[0].entries:
            ran = [race for race in races if race.ran(label)]
            times = [np.percentile(race.entries[label].times, (25, 50, 75)) for race in ran]
            if not ran:
                continue
            low, middle, high = np.transpose(times)
            color, x = _COLORS[label], [race.x for race in ran]
            panel.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
            style = "--" if label == COPY else "-"
            panel.plot(x, middle, style, color=color, marker=".", label=label)
        panel.set(xscale="log", yscale="log", title=kind)
        panel.set_xlabel("bytes of the tensor" if "size" in kind else kind.partition(",")[0])
        if not index:
            panel.legend(fontsize=8)
    figure.tight_layout()
    return svg(figure)


def _roofline(report: Report, races: list[Race], threads: int) -> str:
    figure = Figure(figsize=(9, 4.6))
    panel = figure.subplots()
    copies = [2 * race.bytes / race.milliseconds(COPY) / 1e6 for race in races if race.ran(COPY)]
    peak = report.peaks.get(str(threads))
    intensities = np.logspace(-1, 1.7, 200)
    if copies:
        roofs = {f"fastest copy, {max(copies):.0f} GB/s": max(copies)}
        roofs[f"slowest copy, {min(copies):.0f} GB/s"] = min(copies)
        for style, (label, rate) in zip(("-", "--"), roofs.items(), strict=False):
            roof = np.minimum(intensities * rate, peak / 1e9 if peak else np.inf)
            panel.plot(intensities, roof, style, color=FAINT, label=label)
    if peak:
        panel.axhline(peak / 1e9, color=FAINT, linestyle=":")
        panel.annotate(f"convolution, {peak / 1e9:.0f} Gflop/s", (0.11, peak / 1e9 * 1.1))
    for label, marker in _MARKERS.items():
        element = label.removeprefix("ours").strip() or "float32"
        intensity = _OPERATIONS / (2 * BYTES[element])
        rates = [
            race.bytes / BYTES["float32"] * _OPERATIONS / time / 1e6
            for race in races
            if (time := race.milliseconds(label))
        ]
        # Side by side, as the two storage types move the same.
        x = np.full(len(rates), intensity * (1.08 if label == contests.BFLOAT16 else 1))
        panel.plot(x, rates, marker, color=_COLORS[label], alpha=0.7, label=f"ours, {element}")
    panel.set(xscale="log", yscale="log", ylabel="Gflop/s")
    panel.set_xlabel(f"flop per byte moved, {_OPERATIONS} flop for an element")
    panel.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    return svg(figure)


def _scaling(report: Report) -> str | None:
    counts = sorted({race.threads for race in report.of("operator")})
    fewest = (
        {(r.subject, r.layout): r for r in _of(report, "operator", counts[0])} if counts else {}
    )
    if len(counts) < 2:
        return None
    races = _of(report, "operator", counts[-1])
    figure = Figure(figsize=(11, 0.3 * len(races) + 1.2))
    panel = figure.subplots()
    for label in (COPY, contests.OURS, *contests.TORCH.values()):
        points = [
            (fewest[race.subject, race.layout].milliseconds(label) / race.milliseconds(label), y)
            for y, race in enumerate(races)
            if race.ran(label) and fewest[race.subject, race.layout].ran(label)
        ]
        if points:
            panel.plot(*np.transpose(points), "o", color=_COLORS[label], label=label)
    panel.set_yticks(range(len(races)), [f"{race.subject}, {race.layout}" for race in races])
    panel.invert_yaxis()
    panel.set_xlabel(f"time with {counts[0]} over time with {counts[-1]} threads")
    panel.legend(fontsize=8)
    figure.tight_layout()
    return svg(figure)
