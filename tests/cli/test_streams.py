"""The command line in a process of its own: streams that are closed, full or without a reader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import onnxnorm

PATH = os.pathsep.join([str(Path(onnxnorm.__file__).parents[1]), *sys.path[1:]])


def start(
    *arguments: object,
    prepare: Callable[[], object] | None = None,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> subprocess.Popen[str]:
    """``onnxnorm`` in a process of its own, in which ``prepare`` runs first."""

    return subprocess.Popen(
        [sys.executable, "-m", "onnxnorm", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": PATH, **(environment or {})},
        preexec_fn=prepare,
        text=True,
        errors="surrogateescape",
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out or "", err or ""


@pytest.mark.parametrize("arguments", [["--help"], ["inspect", "--json"], ["inspect"]])
@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_closed_pipe_is_141(norm_file: Path, arguments: list[str], buffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    given = [*arguments, norm_file] if "inspect" in arguments else arguments
    process = start(*given, stdout=writing, environment={"PYTHONUNBUFFERED": buffered})
    os.close(writing)
    assert ended(process) == (141, "", "")


def test_a_reader_that_goes_away_in_between(tmp_path: Path, norm_model: Any) -> None:
    """After the pipe, which holds 64 KB, is full."""
    for place in range(3000):
        norm_model.graph.node.add(
            op_type="LayerNormalization",
            name=f"n{place}",
            input=["w", "last"],
            output=[f"v{place}"],
        )
    (tmp_path / "m.onnx").write_bytes(norm_model.SerializeToString())
    process = start("inspect", tmp_path / "m.onnx", "--json")
    assert process.stdout is not None
    assert process.stdout.read(100)
    process.stdout.close()
    process.stdout = None
    assert ended(process)[::2] == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["info"], ["inspect", "--json"]])
def test_a_full_stdout_is_one_line(norm_file: Path, arguments: list[str], buffered: str) -> None:
    given = [*arguments, norm_file] if "inspect" in arguments else arguments
    with open("/dev/full", "w") as full:
        process = start(*given, stdout=full, environment={"PYTHONUNBUFFERED": buffered})
    status, _, err = ended(process)
    assert (status, len(err.splitlines())) == (2, 1)
    assert err.startswith("onnxnorm: error: cannot ")
    assert "No space left" in err


def closing(*descriptors: int) -> Callable[[], None]:
    return lambda: [os.close(descriptor) for descriptor in descriptors] and None


def test_a_closed_stdout_is_one_line(norm_file: Path) -> None:
    status, _, err = ended(start("inspect", norm_file, prepare=closing(1)))
    assert (status, err) == (
        2,
        "onnxnorm: error: stdout is closed: redirect it to a file or to /dev/null\n",
    )


@pytest.mark.parametrize(
    ("closed", "status"), [((0,), 0), ((2,), 0), ((0, 2), 0), ((0, 1, 2), 2), ((1, 2), 2)]
)
def test_other_closed_streams(norm_file: Path, closed: tuple[int, ...], status: int) -> None:
    found, out, err = ended(start("inspect", norm_file, prepare=closing(*closed)))
    assert (found, err) == (status, "")
    assert bool(out) is (status == 0)


def test_what_c_prints_goes_into_no_file(norm_file: Path, tmp_path: Path) -> None:
    """With stderr closed, the next file that is opened would have its number."""
    fast = tmp_path / "fast.onnx"
    status, _, _ = ended(start("optimize", norm_file, "-o", fast, prepare=closing(0, 2)))
    assert status == 0
    assert ended(start("inspect", fast))[0] == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_an_error_that_cannot_be_told(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        assert ended(start("inspect", tmp_path / "absent", stderr=full))[:2] == (2, "")
    reading, writing = os.pipe()
    os.close(reading)
    process = start("inspect", tmp_path / "absent", stderr=writing)
    os.close(writing)
    assert ended(process)[:2] == (2, "")


def one_line(outcome: tuple[int, str, str]) -> str:
    status, out, err = outcome
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "fault of onnxnorm" not in err
    return err


def test_a_deleted_working_directory(tmp_path: Path, norm_file: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    process = start("inspect", "m.onnx", prepare=lambda: (os.chdir(gone), gone.rmdir()))
    assert "working directory does not exist any more" in one_line(ended(process))


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "n" * 256],
        ["inspect", "n" * 5000],
        ["optimize", "{}", "-o", "n" * 256],
        ["bench", "n" * 256],
        ["bench", "{}", "--against", "n" * 256],
        ["bench", "{}", "--inputs", "n" * 256],
        ["convert", "n" * 256, "-o", "m.onnx"],
        ["convert", "{}", "-o", "n" * 256],
        ["verify", "n" * 256, "{}"],
        ["verify", "{}", "n" * 256],
        ["verify", "{}", "{}", "--json", "n" * 256],
    ],
    ids=lambda arguments: " ".join(arguments).replace("n" * 200, "…"),
)
def test_names_that_are_too_long(norm_file: Path, tmp_path: Path, arguments: list[str]) -> None:
    given = [argument.format(norm_file) for argument in arguments]
    assert "too long" in one_line(ended(start(*given, cwd=tmp_path)))


SURROGATE = os.fsdecode(b"\xff\x1b")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX", "en_US.ISO-8859-1"])
def test_names_that_are_not_text(norm_file: Path, tmp_path: Path, locale: str) -> None:
    environment = {"LC_ALL": locale, "PYTHONIOENCODING": ""}
    shown = r"\x1b.onnx"
    named = tmp_path / f"{SURROGATE}.onnx"
    arguments = ("inspect", named)
    assert shown in one_line(ended(start(*arguments, environment=environment)))
    named.write_bytes(norm_file.read_bytes())
    status, out, err = ended(start(*arguments, environment=environment))
    assert (status, err) == (0, "")
    assert shown in out
    assert "rename the file" in one_line(ended(start("bench", named, environment=environment)))
    for rest in ([f"--{SURROGATE}"], ["--shape", f"{SURROGATE}=1"], ["--against", SURROGATE]):
        one_line(ended(start("bench", norm_file, *rest, environment=environment)))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_streams_of_other_encodings(norm_model: Any, tmp_path: Path, encoding: str) -> None:
    norm_model.graph.node[0].name = "名前"
    (tmp_path / "m.onnx").write_bytes(norm_model.SerializeToString())
    environment = {"PYTHONIOENCODING": encoding}
    process = start("inspect", tmp_path / "m.onnx", environment=environment)
    assert ended(process)[::2] == (0, "")
    assert ended(start("--help", environment=environment))[::2] == (0, "")


@pytest.fixture
def benchmark(norm_file: Path) -> tuple[object, ...]:
    """Arguments of a command that takes long."""
    pytest.importorskip("onnxruntime")
    return ("bench", norm_file, "--no-optimize", "--rounds", "1000000")


@contextmanager
def working(
    folder: Path, arguments: tuple[object, ...], **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A process that has temporary files in a folder; whatever happens, it does not go on."""
    process = start(*arguments, environment={"TMPDIR": str(folder)}, **options)
    try:
        while not list(folder.glob("onnxnorm-*/*")):
            assert process.poll() is None
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("name", "word"),
    [("SIGINT", "interrupted"), ("SIGTERM", "terminated"), ("SIGHUP", "the terminal is gone")],
)
def test_signals_end_it_and_nothing_temporary_stays(
    tmp_path: Path, benchmark: tuple[object, ...], name: str, word: str
) -> None:
    number = getattr(signal, name)
    with working(tmp_path, benchmark) as process:
        process.send_signal(number)
        assert ended(process) == (128 + number, "", f"onnxnorm: error: {word}\n")
    assert not list(tmp_path.glob("onnxnorm-*"))


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGTERM"])
def test_signals_that_the_parent_ignores_stay_ignored(
    tmp_path: Path, benchmark: tuple[object, ...], name: str
) -> None:
    """As ``nohup`` and many runners of tests start it."""
    number = getattr(signal, name)
    ignore = partial(signal.signal, number, signal.SIG_IGN)
    with working(tmp_path, benchmark, prepare=ignore) as process:
        process.send_signal(number)
        time.sleep(0.3)
        assert process.poll() is None
        other = signal.SIGTERM if number != signal.SIGTERM else signal.SIGINT
        process.send_signal(other)
        assert ended(process)[0] == 128 + other
    assert not list(tmp_path.glob("onnxnorm-*"))


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_colours_that_are_asked_for_draw_no_bar_into_a_pipe(
    norm_file: Path, tmp_path: Path, variable: str
) -> None:
    environment = {variable: "1", "TERM": "xterm", "COLUMNS": "30"}
    fast = tmp_path / "fast.onnx"
    status, out, err = ended(start("optimize", norm_file, "-o", fast, environment=environment))
    assert (status, err) == (0, "")
    assert out.splitlines()[-1].startswith(f"{fast}: ")
