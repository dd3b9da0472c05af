"""What the commands share of the terminal: tables, JSON, the error line, quiet libraries."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

DEBUG_VARIABLE = "ONNXNORM_DEBUG"
_WIDTH_OF_A_PIPE = 200


def debugging() -> bool:
    """Whether the user wants tracebacks and the libraries' logs."""
    return os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")


def complain(message: str) -> None:
    """Prints one line on stderr, whatever the message."""
    console = Console(stderr=True)
    console.print("onnxnorm: error:", style="bold red", end=" ")
    console.print(" ".join(message.split()), markup=False, highlight=False, soft_wrap=True)


def show(line: str) -> None:
    """Prints a line on stdout."""
    _stdout().print(line, markup=False, highlight=False, soft_wrap=True)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table on stdout; no cell is cut, long ones fold."""
    table = Table(header_style="bold", show_header=any(columns), box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console = _stdout()
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())


def show_json(value: Any) -> None:
    """Prints JSON on stdout."""
    print(json.dumps(value, indent=2))


@contextmanager
def working(message: str) -> Iterator[None]:
    """Shows on a terminal's stderr that work goes on, and silences the libraries that do it.

    With ``--debug`` all that they print goes to stderr.
    """
    with (
        os.fdopen(os.dup(2), "w") as stderr,
        Console(file=stderr).status(message),
        _output_to(os.dup(2) if debugging() else os.open(os.devnull, os.O_WRONLY)),
    ):
        yield


@contextmanager
def _output_to(descriptor: int) -> Iterator[None]:
    """Sends what anything in the process, C++ included, writes to stdout or stderr elsewhere.

    TensorFlow logs from C++ before any setting of it takes effect.
    """
    streams = {1: sys.stdout, 2: sys.stderr}
    kept = {number: os.dup(number) for number in streams}
    for number, stream in streams.items():
        stream.flush()
        os.dup2(descriptor, number)
    try:
        yield
    finally:
        for number, stream in streams.items():
            stream.flush()
            os.dup2(kept[number], number)
            os.close(kept[number])
        os.close(descriptor)


def _stdout() -> Console:
    # A pipe has no width; rich would take 80 columns and fold.
    fixed = None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE
    return Console(width=fixed)
