"""The table at the end of the pipeline: its columns, and how each number is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from tools.latency import Timing
from tools.summary import Row


@dataclass(frozen=True)
class Cell:
    """A value and what stands below it in small type."""

    text: str
    note: str = ""


COLUMNS: tuple[str, ...] = (
    "model",
    "form",
    "nodes, before → after",
    "norm nodes, before → after",
    "accuracy TensorFlow",
    "accuracy ONNX Runtime",
    "top-1 agreement",
    "largest error",
    "TensorFlow ms",
    "plain ms",
    "ours ms",
    "ours vs plain",
    "parity",
)
PARTIES = ("tensorflow", "plain", "ours")


def cells(row: Row) -> list[Cell]:
    """What stands in the columns for one row."""
    return [
        Cell(row.model),
        Cell(row.form),
        Cell(f"{row.nodes_before} → {row.nodes_after}"),
        Cell(f"{row.norm_nodes_before} → {row.norm_nodes_after}"),
        Cell(f"{row.accuracy_tensorflow:.2%}"),
        Cell(f"{row.accuracy_onnxruntime:.2%}"),
        Cell(percent_of_all(row.top1_agreement)),
        Cell(f"{row.largest_error:.1e}"),
        *(latency(row.latency.get(party)) for party in PARTIES),
        Cell("-" if row.times_faster is None else f"{row.times_faster:.1f}×"),
        Cell("pass" if row.passed else "FAIL"),
    ]


def latency(timing: Timing | None) -> Cell:
    """The median with the quartiles below it."""
    if timing is None:
        return Cell("-")
    digits = 2 if timing.median >= 1 else 3
    return Cell(
        f"{timing.median:.{digits}f}",
        f"{timing.first_quartile:.{digits}f}–{timing.third_quartile:.{digits}f}",
    )


def percent_of_all(part: float) -> str:
    """A part as percent that says 100 % of nothing less than all."""
    return "100%" if part == 1 else f"{min(part, 0.9999):.2%}"


def terminal_table(rows: Sequence[Row]) -> Table:
    """The table for a terminal."""
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 1))
    for column in COLUMNS:
        left = column in ("model", "form", "parity")
        table.add_column(
            column.replace(", before", " before"),
            justify="left" if left else "right",
            vertical="top",
            overflow="fold",
        )
    previous = ""
    for row in rows:
        texts = [_text(cell) for cell in cells(row)]
        if row.model == previous:
            texts[0] = Text("")
        texts[-1].stylize("bold green" if row.passed else "bold red")
        table.add_row(*texts)
        previous = row.model
    return table


def _text(cell: Cell) -> Text:
    text = Text(cell.text)
    if cell.note:
        text.append(f"\n{cell.note}", style="dim")
    return text
