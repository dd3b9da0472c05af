"""The standard streams of the process, which can be closed, full or without a reader."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO

READER_GONE = 141
"""Exit status where the reader of a pipe is gone: 128 and the number of SIGPIPE, as shells tell."""


def prepare() -> str:
    """Makes the streams fit for what a command prints, or says why none can work."""
    if sys.stdout is None:
        return "stdout is closed: redirect it to a file or to /dev/null"
    for descriptor in (0, 2):
        # Otherwise the next file that is opened has this number, and C++ prints into it.
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name can hold what the encoding of the stream does not have.
            stream.reconfigure(errors="backslashreplace")
    try:
        os.getcwd()
    except OSError:
        return "the working directory does not exist any more: change to another one"
    return ""


def complain(line: str) -> None:
    """Prints a line on stderr, where that is possible."""
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _silence(sys.stderr)


def say(reason: str) -> None:
    """Prints an error line where nothing else of the command line is loaded."""
    complain(f"onnxnorm: error: {reason}")


def finish(status: int) -> int:
    """Sends off what was printed; returns the exit status, another one where that fails."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = READER_GONE
    except OSError as error:
        if status < 2:
            say(f"cannot write to stdout: {error.strerror or error}")
            status = 2
    else:
        return status
    _silence(sys.stdout)
    return status


def _silence(stream: TextIO) -> None:
    """Python would fail once more when it flushes the stream at exit, and tell it in its way."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
