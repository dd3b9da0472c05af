"""The table at the end of the pipeline: its columns, and how each number is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from onnxnorm.latency import Timing
from tools.summary import Row

_STYLES = {"pass": "bold green", "as plain": "bold yellow", "FAIL": "bold red"}


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
WORDS = ("model", "form", "parity")
# Columns of a terminal that the whole table needs.
WIDE = 150
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
        Cell(row.verdict),
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


def terminal_tables(rows: Sequence[Row], width: int) -> list[Table]:
    """The table for a terminal; in two parts where it is too narrow for one."""
    lines = [cells(row) for row in rows]
    for previous, line in zip(rows, lines[1:], strict=False):
        if line[0].text == previous.model:
            line[0] = Cell("")
    whole = list(range(len(COLUMNS)))
    parts = [whole] if width >= WIDE else [[0, 1, *whole[2:8]], [0, 1, *whole[8:]]]
    return [_table(lines, columns) for columns in parts]


def _table(lines: Sequence[Sequence[Cell]], columns: Sequence[int]) -> Table:
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 1))
    for column in columns:
        is_word = COLUMNS[column] in WORDS
        table.add_column(
            COLUMNS[column].replace(", before", " before"),
            justify="left" if is_word else "right",
            no_wrap=is_word,
            overflow="fold",
        )
    for line in lines:
        table.add_row(*(_text(line[column]) for column in columns))
    return table


def _text(cell: Cell) -> Text:
    text = Text(cell.text, style=_STYLES.get(cell.text, ""))
    if cell.note:
        text.append(f"\n{cell.note}", style="dim")
    return text
