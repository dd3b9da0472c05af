"""What the commands share of the terminal: tables, JSON, the error line, quiet libraries."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
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
    """Shows on a terminal's stderr that work goes on, and keeps the libraries' talk off stdout.

    With ``--debug`` their logs and warnings stay, on stderr.
    """
    with Console(stderr=True).status(message), _stdout_on_stderr():
        if debugging():
            yield
            return
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.ERROR)
            try:
                yield
            finally:
                logging.disable(logging.NOTSET)


@contextmanager
def _stdout_on_stderr() -> Iterator[None]:
    """Sends what anything in the process, C++ included, writes to stdout to stderr instead."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _stdout() -> Console:
    # A pipe has no width; rich would take 80 columns and fold.
    fixed = None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE
    return Console(width=fixed)
