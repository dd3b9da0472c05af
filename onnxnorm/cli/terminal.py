"""What the commands share of the terminal: tables, JSON, the error line, quiet libraries."""

from __future__ import annotations

import bisect
import io
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from onnxnorm.cli import streams
from onnxnorm.json_text import json_text

DEBUG_VARIABLE = "ONNXNORM_DEBUG"
_WIDTH_OF_A_PIPE = 200
_GAP = 2
_NARROW = 14
_LONGEST_COMPLAINT = 4000
# Controls, formats, surrogates, and ends of lines and of paragraphs.
_OBEYED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

Cell = str | Sequence[str]


def debugging() -> bool:
    """Whether the user wants tracebacks and the libraries' logs."""
    return os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")


def complain(message: str) -> None:
    """Prints one line on stderr, whatever the message."""
    head = io.StringIO()  # Rich ends the process by itself where nobody reads stderr
    console = Console(file=head, force_terminal=sys.stderr.isatty() or None)
    console.print("onnxnorm: error:", style="bold red", end=" ")
    line = visible(" ".join(message.split()))
    if len(line) > _LONGEST_COMPLAINT:
        half = _LONGEST_COMPLAINT // 2
        line = f"{line[:half]} … {line[-half:]}"
    streams.complain(f"{head.getvalue()}{line}")


def visible(text: str) -> str:
    """The text with what a terminal would obey, and what is no character, written out.

    Control characters, ends of lines, those that change the direction of writing or take no room,
    and lone surrogates become escapes such as ``\\x1b``.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_written_out(c) if unicodedata.category(c) in _OBEYED else c for c in text)


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def show(line: str) -> None:
    """Prints a line on stdout."""
    print(visible(line))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Prints a table on stdout; no cell is cut, long ones fold between words.

    Where a column would get too narrow for its words, each row is printed as a paragraph.

    Args:
        columns: their names.
        rows: a cell for each column: a line, or a sequence of lines.
    """
    _show_table(columns, [[_text(cell) for cell in row] for row in rows])


def _text(cell: Cell) -> str:
    return visible(cell) if isinstance(cell, str) else "\n".join(map(visible, cell))


def _show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console = _stdout()
    cells = list(zip(columns, *rows, strict=True))
    room = console.width - _GAP * (len(columns) - 1)
    lines = [_longest(column, "\n") for column in cells]
    readable = [max(_longest(c), min(w, _NARROW)) for w, c in zip(lines, cells, strict=True)]
    widths = _shrunk(lines, readable, room)
    if sum(widths) > room:
        if any(columns):
            for row in rows:
                _show_paragraph(columns, row)
            return
        widths = _shrunk(widths, [1] * len(widths), room)
    table = Table(header_style="bold", show_header=any(columns), box=None, padding=(0, _GAP, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column, overflow="fold", width=width)
    for row in rows:
        table.add_row(*map(escape, row))
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())


def _longest(cells: Sequence[str], separator: str | None = None) -> int:
    """Length of the longest line, or by default of the longest word."""
    return max((cell_len(part) for cell in cells for part in cell.split(separator)), default=0)


def _shrunk(widths: Sequence[int], floor: Sequence[int], room: int) -> list[int]:
    """The widths, the widest ones made smaller until all fit in or have come down to the floor."""

    def narrowed(most: int) -> list[int]:
        return [max(low, min(width, most)) for width, low in zip(widths, floor, strict=True)]

    too_wide = bisect.bisect_right(range(max(widths) + 1), room, key=lambda m: sum(narrowed(m)))
    return narrowed(too_wide - 1)


def _show_paragraph(columns: Sequence[str], row: Sequence[str]) -> None:
    margin = max(map(len, columns)) + _GAP
    show(row[0])
    for column, cell in zip(columns[1:], row[1:], strict=True):
        for index, line in enumerate(cell.splitlines()):
            show(f"  {'' if index else column:{margin}}{line}")


def show_json(value: Any) -> None:
    """Prints JSON on stdout."""
    print(json_text(value))


@contextmanager
def working(message: str) -> Iterator[None]:
    """Shows on a terminal's stderr that work goes on, and silences the libraries that do it.

    With ``--debug`` all that they print goes to stderr.
    """
    with _quiet_libraries() as console, console.status(escape(visible(message))):
        yield


@contextmanager
def advancing(message: str) -> Iterator[Callable[[float], None]]:
    """As `working`, with a bar.

    Yields:
        what is told the part that is done; the bar moves then only, so that nothing disturbs a
        measurement meanwhile.
    """
    with (
        _quiet_libraries() as console,
        Progress(
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not console.is_terminal,
        ) as bar,
    ):
        task = bar.add_task(escape(visible(message)), total=1)
        yield lambda done: bar.update(task, completed=done, refresh=True)


@contextmanager
def _quiet_libraries() -> Iterator[Console]:
    """A console on stderr, where nobody else writes meanwhile."""
    with (
        os.fdopen(os.dup(2), "w") as stderr,
        _output_to(os.dup(2) if debugging() else os.open(os.devnull, os.O_WRONLY)),
    ):
        yield Console(file=stderr, force_terminal=stderr.isatty())


@contextmanager
def _output_to(descriptor: int) -> Iterator[None]:
    """Sends what anything in the process, C++ included, writes to stdout or stderr elsewhere.

    TensorFlow logs from C++ before any setting of it takes effect.
    """
    streams = {1: sys.stdout, 2: sys.stderr}
    kept = {number: os.dup(number) for number in streams}
    try:
        for number, stream in streams.items():
            stream.flush()
            os.dup2(descriptor, number)
        yield
    finally:
        for number, stream in streams.items():
            stream.flush()
            os.dup2(kept[number], number)
            os.close(kept[number])
        os.close(descriptor)


def _stdout() -> Console:
    if sys.stdout.isatty():
        return Console()
    # A pipe has no width; rich would take 80 columns and fold.
    return Console(width=_WIDTH_OF_A_PIPE, height=_WIDTH_OF_A_PIPE)
