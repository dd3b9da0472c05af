"""The command line, one file per command.

Exit status: 0 done or in parity, 1 not in parity, 2 bad usage or an input that cannot be used,
128 and the number of the signal that ended it: 130 after Ctrl-C.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_ENDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class _Ended(BaseException):
    """By a signal. No KeyboardInterrupt, which Typer takes for itself."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status.

    Args:
        arguments: what follows the program's name on the command line; default: ``sys.argv``.

    Raises:
        Exception: what went wrong, but only with ``--debug`` or ``ONNXNORM_DEBUG=1``; without,
            one line on stderr tells of it.
    """
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    status = 0
    with _ended_by_signals() as signals:
        try:
            from onnxnorm.cli import app  # takes a while, in which signals come too

            status = app.run(given, signals)
        except BaseException:  # extension modules make something else of `_Ended`, or nothing
            if not signals:
                raise
    for number in signals[:1]:
        print(f"onnxnorm: error: {_ENDS[number]}", file=sys.stderr)
        return 128 + number
    return status


@contextmanager
def _ended_by_signals() -> Iterator[list[signal.Signals]]:
    """Signals raise `_Ended`, so that what is temporary is removed; ignored ones stay ignored.

    Yields:
        those that came.
    """
    came: list[signal.Signals] = []

    def end(number: int, _: object) -> None:
        came.append(signal.Signals(number))
        raise _Ended

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.getsignal(number) for number in _ENDS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
