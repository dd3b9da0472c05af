"""What was found, as tables: for a terminal, for a page, for the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich import table as rich_table
from rich.text import Text

from tools.bench import contests, targets
from tools.bench.cases import COPY
from tools.bench.results import Race, Ratio, Report

WIDTH = 200
MET = {True: "met", False: "NOT MET", None: "not measured"}
_STYLES = {"met": "bold green", "NOT MET": "bold red", "not measured": "yellow"}


@dataclass(frozen=True)
class Table:
    """Words, for any of the three.

    Attributes:
        title: what it shows.
        columns: their heads; the first one is of words, as are the other `words`.
        rows: as many cells each.
        note: how to read it.
        words: columns beside the first one that are not numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    words: tuple[str, ...] = ()

    def is_words(self, column: str) -> bool:
        """Whether a column is not of numbers."""
        return column in (self.columns[0], *self.words)


def all_of(report: Report) -> list[Table]:
    """Every table that there is something for."""
    counts = sorted({race.threads for race in report.races})
    made = [
        table
        for count in counts
        for part in (_operators, _storage, _epilogues, _networks)
        for table in (part(report, count),)
        if table.rows
    ]
    return [*made, *_shares(report), *_failures(report), _targets(report)]


def terminal(table: Table) -> rich_table.Table:
    """For rich to print."""
    printed = rich_table.Table(
        title=table.title,
        title_justify="left",
        caption=table.note,
        caption_justify="left",
        box=box.SIMPLE,
        pad_edge=False,
        padding=(0, 1),
    )
    for column in table.columns:
        left = table.is_words(column)
        printed.add_column(column, justify="left" if left else "right", overflow="fold")
    for row in table.rows:
        printed.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    return printed


def markdown(table: Table) -> str:
    """For the documentation."""
    rules = ("---" if table.is_words(column) else "---:" for column in table.columns)
    lines = [table.columns, tuple(rules), *table.rows]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table.title}:\n\n{body}\n" + (f"\n{table.note}\n" if table.note else "")


def _operators(report: Report, threads: int) -> Table:
    others = (*contests.TORCH.values(), contests.NATIVE, contests.PLAIN)
    others = (*others, contests.OPENVINO, contests.TENSORFLOW)
    rows = [
        (
            race.subject,
            race.layout,
            f"{race.bytes / 1e6:.2f}",
            _milliseconds(race, COPY),
            _milliseconds(race, contests.OURS),
            _cell(race.ratio(contests.OURS, COPY)),
            *(_cell(race.ratio(other, contests.OURS)) for other in others),
        )
        for race in report.of("operator")
        if race.threads == threads
    ]
    return Table(
        f"One layer, float32, {targets.in_words(threads)}",
        (
            "layer",
            "layout",
            "MB",
            "copy ms",
            "ours ms",
            "ours / copy",
            *(f"{o} / ours" for o in others),
        ),
        tuple(rows),
        "Ratios of times: medians over rounds, quartiles in brackets.",
        ("layout",),
    )


def _storage(report: Report, threads: int) -> Table:
    kinds = (contests.FLOAT16, contests.BFLOAT16)
    rows = [
        (race.subject, race.layout, *(_cell(race.ratio(kind, contests.OURS)) for kind in kinds))
        for race in report.of("operator")
        if race.threads == threads
    ]
    return Table(
        f"Storage types, {targets.in_words(threads)}",
        ("layer", "layout", "float16 / float32", "bfloat16 / float32"),
        tuple(rows),
        words=("layout",),
    )


def _epilogues(report: Report, threads: int) -> Table:
    races = [race for race in report.of("epilogue") if race.threads == threads]
    labels = dict.fromkeys(label for race in races for label in race.entries)
    rows = [
        (label, *(_cell(race.ratio(label, contests.OURS)) for race in races))
        for label in labels
        if label not in (contests.OURS, COPY)
    ]
    return Table(
        f"Our node with what it has taken in, to the same without, {targets.in_words(threads)}",
        ("epilogue", *(f"{race.subject}, {race.layout}" for race in races)),
        tuple(rows),
        "A residual is one more tensor to read: a copy moves two, the node with a residual three.",
    )


def _networks(report: Report, threads: int) -> Table:
    races = [race for race in report.of("network") if race.threads == threads]
    others = dict.fromkeys(label for race in races for label in race.entries)
    others.pop(contests.OPTIMIZED, None)
    rows = [
        (
            race.subject,
            _milliseconds(race, contests.OPTIMIZED),
            *(_cell(race.ratio(other, contests.OPTIMIZED)) for other in others),
        )
        for race in races
    ]
    return Table(
        f"Networks, float32, {targets.in_words(threads)}",
        ("network", "ours optimized ms", *(f"{other} / ours" for other in others)),
        tuple(rows),
        "Times to that of our optimized form.",
    )


def _shares(report: Report) -> list[Table]:
    rows = [
        (share.network, share.form, str(share.threads), f"{share.norms:.1%}")
        for share in report.shares
    ]
    columns = ("network", "form", "threads", "norms")
    title = "What part of a network's time its norms take, by ONNX Runtime's profiler"
    return [Table(title, columns, tuple(rows), words=("form",))] if rows else []


def _failures(report: Report) -> list[Table]:
    told: dict[tuple[str, str, str], list[str]] = {}
    for race in report.races:
        for label, entry in race.entries.items():
            if entry.failure:
                where = f"{race.subject} {race.layout}".strip()
                own = told.setdefault((label, entry.failure, race.kind), [])
                own += [where] * (where not in own)
    rows = [(label, why, ", ".join(where)) for (label, why, _), where in told.items()]
    columns = ("contestant", "why", "of")
    return [Table("Not timed", columns, tuple(rows), words=columns)] if rows else []


def _targets(report: Report) -> Table:
    columns = ("asked", "measured", "met")
    rows = [(t.asked, t.measured, MET[t.met]) for t in targets.all_of(report)]
    return Table("Asked and measured", columns, tuple(rows), words=columns)


def _milliseconds(race: Race, label: str) -> str:
    found = race.milliseconds(label)
    return "-" if found is None else f"{found:.3g}"


def _cell(ratio: Ratio | None) -> str:
    return "-" if ratio is None else str(ratio)


def environment(report: Report) -> Sequence[str]:
    """What it was measured on, a line each."""
    where = report.environment
    versions = ", ".join(f"{name} {version}" for name, version in where.versions.items())
    paces = "; ".join(
        f"{kind}: {pace['rounds']} rounds of {pace['seconds'] * 1e3:.0f} ms for each"
        for kind, pace in report.pace.items()
    )
    return (
        f"{where.processor}, {where.system}, {where.date}; {report.seconds / 60:.0f} minutes.",
        f"{versions}.",
        f"{paces}.",
    )
