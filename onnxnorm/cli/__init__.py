"""The command line, one file per command.

Exit status: 0 done or in parity, 1 not in parity, 2 bad usage or an input that cannot be used,
128 and the number of the signal that ended it: 130 after Ctrl-C, 141 when the reader of its output
is gone.
"""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from onnxnorm.cli import streams, supervised

_ENDS = {
    getattr(signal, name): word
    for name, word in (
        ("SIGINT", "interrupted"),
        ("SIGTERM", "terminated"),
        ("SIGHUP", "the terminal is gone"),
    )
    if hasattr(signal, name)  # Windows has no SIGHUP
}
_AT_ONCE = 1.0  # seconds


class _Ended(BaseException):
    """By a signal. No KeyboardInterrupt, which Typer takes for itself."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status.

    Args:
        arguments: what follows the program's name on the command line; default: ``sys.argv``.

    One line on stderr tells of what goes wrong, a traceback with ``--debug`` or
    ``ONNXNORM_DEBUG=1``.
    """
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    unfit = streams.prepare()
    if unfit:
        streams.say(unfit)
        return 2
    status = 0
    with _signals() as signals:
        if arguments is None:
            ended = supervised.wait_for_child(given)
            if ended is not None:
                return ended
        try:
            try:
                signals.end()
                from onnxnorm.cli import app  # takes a while, in which signals come too

                status = app.run(given, signals.came)
            finally:
                signals.ending = False
        except BaseException:  # extension modules make something else of `_Ended`, or nothing
            if not signals.came:
                raise
        if signals.came:
            number = signals.came[0]
            streams.say(_ENDS[number])
            status = streams.finish(128 + number)
    return status


class _Signals:
    """Those that came. While they end the command, they raise `_Ended`; else they are only noted.

    Those that follow one at once do not raise again: what is temporary is being removed. Later ones
    do, for something may have swallowed the exception.
    """

    def __init__(self) -> None:
        self.came: list[signal.Signals] = []
        self.ending = False
        self._quiet_until = -math.inf

    def end(self) -> None:
        """Lets signals end the command; one that has come does so now."""
        self.ending = True
        if self.came:
            raise _Ended

    def handle(self, number: int, _: object) -> None:
        self.came.append(signal.Signals(number))
        now = time.monotonic()
        if self.ending and now >= self._quiet_until:
            self._quiet_until = now + _AT_ONCE
            raise _Ended


@contextmanager
def _signals() -> Iterator[_Signals]:
    """Handles signals meanwhile; ignored ones and those handled in C stay what they are."""
    signals = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {number: signal.getsignal(number) for number in _ENDS}
    replaced = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in replaced:
        signal.signal(number, signals.handle)
    try:
        yield signals
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
