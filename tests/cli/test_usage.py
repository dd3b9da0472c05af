"""Usage, help and errors of the command line as a whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

import onnxnorm
from onnxnorm import cli

COMMANDS = ("convert", "verify", "optimize", "bench", "inspect", "info")


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that sees the onnxnorm that these tests see."""
    path = os.pathsep.join([str(Path(onnxnorm.__file__).parents[1]), *sys.path[1:]])
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(onnxnorm_cli, command):
    outcome = onnxnorm_cli(command, "--help")
    assert outcome.status == 0
    assert f"Example: onnxnorm {command}" in outcome.out


def test_without_arguments_the_help_appears(onnxnorm_cli):
    outcome = onnxnorm_cli()
    assert outcome.status == 0
    assert all(command in outcome.out for command in COMMANDS)


def test_version(onnxnorm_cli):
    assert onnxnorm_cli("--version").out == f"onnxnorm {onnxnorm.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["convert"], "MODEL"),
        (["convert", "m.h5"], "--output"),
        (["convert", "m.h5", "-o", "m.onnx", "--lowering", "best"], "custom"),
        (["convert", "m.h5", "-o", "m.onnx", "--opset", "many"], "--opset"),
        (["inspect"], "MODEL"),
        (["inspect", "m.onnx", "--colour"], "--colour"),
        (["verify", "m.h5", "m.onnx", "--samples", "0"], "--samples"),
        (["bench"], "FILE"),
        (["bench", "m.onnx", "--threads", "0"], "--threads"),
        (["bench", "m.onnx", "--threads", "100000"], "--threads 100000"),
        (["bench", "m.onnx", "--rounds", "0"], "--rounds"),
        (["bench", "m.onnx", "--batch", "many"], "--batch"),
        (["bench", "m.onnx", "--shape", "x=1x-2"], "--shape x=1x-2"),
        (["bench", "m.onnx", "--shape", "1x2"], "--shape 1x2"),
        (["bench", "m.onnx", "--shape", "x="], "--shape x="),
        (["bench", "m.onnx", "--shape", "x=1", "--shape", "x=2"], "--shape x=2: the input has"),
        (["bench", "m.onnx", "--inputs", "a.npz", "--batch", "2"], "--inputs"),
        (["trane"], "trane"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(onnxnorm_cli, arguments, told):
    outcome = onnxnorm_cli(*arguments)
    assert (outcome.status, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith("onnxnorm: error: ")
    assert told in line
    assert "--help" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "absent.h5", "-o", "m.onnx"],
        ["verify", "absent.h5", "m.onnx"],
        ["optimize", "absent.onnx", "-o", "m.onnx"],
        ["bench", "absent.onnx"],
        ["inspect", "absent.onnx"],
    ],
)
def test_an_absent_file_is_named(onnxnorm_cli, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = onnxnorm_cli(*arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("onnxnorm: error: absent.")
    assert "no such file" in outcome.err


def test_a_fault_is_one_line_and_debug_shows_the_traceback(onnxnorm_cli, norm_file, monkeypatch):
    def broken(*_: object) -> None:
        raise KeyError("first\nsecond")

    monkeypatch.setattr("onnxnorm.graph.inspection.inspect", broken)
    outcome = onnxnorm_cli("inspect", norm_file)
    assert outcome.status == 2
    assert len(outcome.err.splitlines()) == 1
    assert "KeyError" in outcome.err
    monkeypatch.setenv("ONNXNORM_DEBUG", "1")
    outcome = onnxnorm_cli("inspect", norm_file)
    assert outcome.status == 2, "1 says: not in parity"
    assert "Traceback" in outcome.err
    assert "KeyError" in outcome.err


def test_debug_may_stand_anywhere(onnxnorm_cli, monkeypatch):
    monkeypatch.setenv("ONNXNORM_DEBUG", "0")
    assert onnxnorm_cli("info", "--debug").status == 0
    assert os.environ["ONNXNORM_DEBUG"] == "1"


# As a shell starts it, whatever the tests were started with.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.{handler})
from onnxnorm.cli import main
sys.exit(main(sys.argv[1:]))
"""
USUAL = "default_int_handler"


@pytest.mark.parametrize(
    ("module", "handler", "status", "told"),
    [
        ("typer", USUAL, 130, "onnxnorm: error: interrupted\n"),
        ("onnx", USUAL, 130, "onnxnorm: error: interrupted\n"),
        ("typer", "SIG_IGN", 7, ""),
    ],
)
def test_interrupts_while_it_imports(tmp_path, norm_file, module, handler, status, told):
    interrupt = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise SystemExit(7)"
    (tmp_path / f"{module}.py").write_text(interrupt)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PROGRAM.format(handler=handler)}"
    done = python("-c", code, "optimize", str(norm_file), "-o", str(tmp_path / "fast.onnx"))
    assert (done.returncode, done.stderr) == (status, told)


# The signal waits in the child until it comes through.
JUST_FORKED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
fork = os.fork
def interrupted():
    child = fork()
    if not child:
        os.kill(os.getpid(), signal.SIGINT)
    return child
os.fork = interrupted
from onnxnorm.cli import main
sys.exit(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no child without fork")
def test_an_interrupt_of_the_child_that_has_just_begun():
    done = python("-c", JUST_FORKED, "verify", "absent.h5", "absent.onnx")
    assert (done.returncode, done.stderr) == (130, "onnxnorm: error: interrupted\n")


def test_an_interrupt_that_an_import_made_something_else_of(tmp_path):
    """As ONNX Runtime's extension module does."""
    interrupt = "import os, signal\ntry:\n os.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / "onnxruntime.py").write_text(f"{interrupt}except BaseException:\n 1 / 0")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{PROGRAM.format(handler=USUAL)}"
    done = python("-c", code, "info")
    assert (done.returncode, done.stderr) == (130, "onnxnorm: error: interrupted\n")


ENDS = {
    "SIGINT": (130, "onnxnorm: error: interrupted\n"),
    "SIGTERM": (143, "onnxnorm: error: terminated\n"),
}


@pytest.mark.parametrize("first", ["SIGINT", "SIGTERM", None])
@pytest.mark.parametrize("second", ["SIGINT", "SIGTERM"])
def test_a_signal_at_any_line_is_told_and_nothing_of_it_leaves(capfd, monkeypatch, first, second):
    """``first`` comes in the command, ``second`` at each line that runs around it."""
    from onnxnorm.cli import app

    left, late, told = 0, [], []

    def run(*_: object) -> int:
        if first:
            signal.raise_signal(signal.Signals[first])
        return 0

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., object] | None:
        nonlocal left
        if frame.f_code.co_filename != cli.__file__:
            return None
        left -= event == "line"
        if event == "line" and left == 0:
            signal.raise_signal(signal.Signals[second])
        return trace

    monkeypatch.setattr(app, "run", run)
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *given: late.append(given)) for number in numbers]
    tracing = sys.gettrace()
    try:
        while left <= 0:
            left = len(told) + 1
            late.clear()
            sys.settrace(trace)
            try:
                status = cli.main(["info"])
            finally:
                sys.settrace(tracing)
            told.append((status, capfd.readouterr().err))
            came = {name for name in (first, left <= 0 and not late and second) if name}
            # One that comes alone may come when all is done.
            assert told[-1] in [ENDS[name] for name in came] + [(0, "")] * (first is None)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    assert len(told) > 10
    assert ENDS[first or second] in told


def test_what_ends_is_not_disturbed_by_the_next_signal_but_by_a_later_one(monkeypatch, capfd):
    from onnxnorm.cli import app

    done = []

    def run(*_: object) -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGTERM)
            done.append("at once")
            monkeypatch.setattr(time, "monotonic", lambda: now + 10)
            signal.raise_signal(signal.SIGTERM)
            done.append("later")
        return 0

    now = time.monotonic()
    monkeypatch.setattr(app, "run", run)
    assert cli.main(["info"]) == 130
    assert done == ["at once"]
    assert capfd.readouterr().err == "onnxnorm: error: interrupted\n"


def test_a_handler_from_c_is_left_alone(onnxnorm_cli, monkeypatch):
    """``getsignal`` knows none for it, and ``signal`` could not put it back."""
    own, replaced = signal.signal, []

    def replace(number: int, handler: object) -> object:
        replaced.append(number)
        return own(number, handler)

    found = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_IGN}
    monkeypatch.setattr(signal, "getsignal", found.get)
    monkeypatch.setattr(signal, "signal", replace)
    before = own(signal.SIGINT, signal.default_int_handler)
    try:
        assert onnxnorm_cli("--version").status == 0
    finally:
        own(signal.SIGINT, before)
    assert replaced == [signal.SIGINT, signal.SIGINT]


def test_handlers_of_signals_are_put_back(onnxnorm_cli):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert onnxnorm_cli("--version").status == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_colours_are_for_terminals(norm_file):
    escape = "\x1b["
    assert escape not in python("-m", "onnxnorm", "inspect", str(norm_file)).stdout
    assert escape not in python("-m", "onnxnorm", "trane").stderr


def test_a_reader_that_goes_away_is_no_error(norm_file):
    command = f"{sys.executable} -m onnxnorm inspect {norm_file} --json | true"
    path = os.pathsep.join([str(Path(onnxnorm.__file__).parents[1]), *sys.path[1:]])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [["--help"], ["convert", "--help"], ["info", "--json"]])
def test_quick_commands_import_no_tensorflow(arguments):
    code = (
        "import sys; from onnxnorm.cli import main; status = main(sys.argv[1:]);"
        "print(status, [m for m in ('tensorflow', 'keras', 'tf2onnx') if m in sys.modules],"
        "file=sys.stderr)"
    )
    assert python("-c", code, *arguments).stderr == "0 []\n"
