"""A command on a file that nobody vouches for runs in a child, whose crash the parent reports.

TensorFlow answers some files with a segmentation fault, which no Python code can catch. The process
forks before TensorFlow is imported, so that the fork costs nothing.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_COMMANDS = ("convert", "verify")
_FORWARDED = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGINT", "SIGTERM") if hasattr(signal, name)
)


def wait_for_child(arguments: Sequence[str]) -> int | None:
    """Forks for a command that loads a Keras file in safe mode.

    Args:
        arguments: what follows the program's name on the command line.

    Returns:
        the exit status of the command, in the parent; None where this process is to run the
        command itself: the child, or the only process where no child is needed or possible.
    """
    if not _is_needed(arguments):
        return None
    # Signals between the fork and the handlers below wait for them; the child keeps the caller's.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    folder = tempfile.mkdtemp(prefix="onnxnorm-")
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        _end_with_parent()
        from onnxnorm.frameworks import bounds

        bounds.ends_when_late = True
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return None
    sent: list[int] = []

    def forward(number: int, _: Any) -> None:
        sent.append(number)
        with suppress(ProcessLookupError):
            os.kill(child, number)

    for number in _FORWARDED:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    try:
        _, status = os.waitpid(child, 0)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    return _killed(os.WTERMSIG(status), sent, child, arguments)


def _is_needed(arguments: Sequence[str]) -> bool:
    command = next((word for word in arguments if not word.startswith("-")), "")
    return (
        hasattr(os, "fork")
        and command in _COMMANDS
        and not {"--no-safe-mode", "--help", "-h"} & set(arguments)
        and "tensorflow" not in sys.modules
        and threading.active_count() == 1
    )


def _killed(number: int, sent: Sequence[int], child: int, arguments: Sequence[str]) -> int:
    _remove_unfinished(arguments, child)
    if number in sent:
        return 128 + number
    what = signal.strsignal(number) or f"signal {number}"
    if number == signal.SIGKILL:
        what += ": perhaps the memory ran out"
    # Not before the fork: these load other packages.
    from onnxnorm.cli import terminal
    from onnxnorm.frameworks import bounds

    command = " ".join(shlex.quote(word) for word in arguments)
    fault = f"TensorFlow crashed ({what.lower()})"
    if number == signal.SIGXCPU:
        fault = (
            f"loading the model took more than {bounds.MAX_SECONDS} s of CPU time and 1 s for "
            "each MB of it"
        )
    terminal.complain(
        f"{fault} in: onnxnorm {command}. "
        "The model file is damaged, or asks for more than this machine has"
    )
    return 2


def _remove_unfinished(arguments: Sequence[str], child: int) -> None:
    """Removes what the child had begun to write beside its outputs, see `onnxnorm.files.aside`."""
    for word in arguments:
        folder = Path(word.partition("=")[2] if word.startswith("--") else word).parent
        with suppress(OSError, ValueError):
            for unfinished in folder.glob(f".onnxnorm-{child}-*"):
                unfinished.unlink(missing_ok=True)


def _end_with_parent() -> None:
    """Ends this process when its parent is killed, where the system can do that."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
