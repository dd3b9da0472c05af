"""The page of a run: one HTML file that needs nothing besides itself; and its tables alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import jinja2

from tools.bench import plots, tables
from tools.bench.results import Report
from tools.bench.tables import Table

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"


def write(report: Report, found: Sequence[Table], html: Path, markdown: Path) -> None:
    """Writes both aside and renames them."""
    _replace(html, render(report, found))
    lines = [*map(tables.markdown, found), " ".join(tables.environment(report)) + "\n"]
    _replace(markdown, "\n".join(lines))


def render(report: Report, found: Sequence[Table]) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("bench.html.j2").render(
        # What is asked goes first: the rest explains it.
        tables=[found[-1], *found[:-1]],
        classes={"met": "pass", "NOT MET": "fail", "not measured": "fair"},
        figures=plots.all_of(report),
        environment=tables.environment(report),
    )


def _replace(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
