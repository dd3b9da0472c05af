"""Where the tests find the project's own packages, and the surroundings that they expect."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

import pytest

# TensorFlow's own default depends on the processor, and without oneDNN its CPU kernels compute
# fewer forms of convolutions. Subprocesses of the tests inherit the variable.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

_ROOT = str(Path(__file__).resolve().parents[1])
_OF_TERMINALS = (
    *("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TERMINAL_WIDTH", "PY_COLORS"),
    *("TTY_COMPATIBLE", "TTY_INTERACTIVE", "GITHUB_ACTIONS", "ONNXNORM_DEBUG"),
)
_NOT_INSTALLED = frozenset({"models", "tests", "tools"})


class _CheckoutFinder(MetaPathFinder):
    """Finds what the wheel leaves out in the checkout, and onnxnorm itself where it is installed.

    Other distributions install packages of the same names, so these come first.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [_ROOT]) if name in _NOT_INSTALLED else None


sys.meta_path.insert(0, _CheckoutFinder())


@pytest.fixture(autouse=True)
def usual_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours and widths are those of a pipe, whatever a runner of tests asks for."""
    for name in _OF_TERMINALS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def usual_signals() -> Iterator[None]:
    """A process that ignores a signal, as below ``nohup``, has its children ignore it too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.getsignal(number) for number in usual}
    ignored = [number for number, handler in before.items() if handler is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, usual[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
