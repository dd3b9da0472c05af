"""The page of a run: one HTML file that needs nothing besides itself; and its tables alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tools.bench import plots, tables
from tools.bench.results import Report
from tools.bench.tables import Table
from tools.steps import workspace
from tools.templating import template


def write(report: Report, found: Sequence[Table], html: Path, markdown: Path) -> None:
    """Writes both aside and renames them."""
    _write(html, render(report, found))
    lines = [*map(tables.markdown, found), " ".join(tables.environment(report)) + "\n"]
    _write(markdown, "\n".join(lines))


def render(report: Report, found: Sequence[Table]) -> str:
    """The page as text."""
    return template("bench.html.j2").render(
        # What is asked goes first: the rest explains it.
        tables=[found[-1], *found[:-1]],
        classes={"met": "pass", "NOT MET": "fail", "not measured": "fair"},
        figures=plots.all_of(report),
        environment=tables.environment(report),
    )


def _write(path: Path, text: str) -> None:
    with workspace.replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")
