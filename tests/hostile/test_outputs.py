"""No command writes over what it reads, or twice over one file, by whatever name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxnorm import cli, files, modelfile
from onnxnorm.errors import ModelFileError
from tests.graph.fusion.graphs import parsed

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Calls the command line in a folder; none of the given files changes."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> int:
        before = contents(tmp_path)
        status = cli.main([str(argument) for argument in arguments])
        assert contents(tmp_path) == before
        return status

    return call


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def model_file(folder: Path, external: str = "") -> None:
    """``m.onnx``, with its weights in another file or without."""
    model = parsed("[norm] v = NORM (x, s, b)\n y = Add (v, large)")
    large = numpy_helper.from_array(np.ones((6, 8), np.float32), "large")
    model.graph.initializer.append(large)
    options = {"save_as_external_data": True, "location": external, "size_threshold": 0}
    onnx.save_model(model, folder / "m.onnx", **(options if external else {}))


def same(folder: Path) -> str:
    return "m.onnx"


def absolute(folder: Path) -> str:
    return str(folder / "m.onnx")


def by_way_of_its_folder(folder: Path) -> str:
    return f"../{folder.name}/./m.onnx"


def symbolic_link(folder: Path) -> str:
    (folder / "link.onnx").symlink_to("m.onnx")
    return "link.onnx"


def two_links(folder: Path) -> str:
    (folder / "first").symlink_to("second.onnx")
    (folder / "second.onnx").symlink_to("m.onnx")
    return "first"


def hard_link(folder: Path) -> str:
    os.link(folder / "m.onnx", folder / "hard.onnx")
    return "hard.onnx"


def linked_folder(folder: Path) -> str:
    (folder / "here").symlink_to(".")
    return "here/m.onnx"


def other_case(folder: Path) -> str:
    return "M.Onnx"


WAYS = (
    *(same, absolute, by_way_of_its_folder, symbolic_link, two_links, hard_link),
    *(linked_folder, other_case),
)


@pytest.mark.parametrize("way", WAYS)
def test_optimize_does_not_write_over_its_model(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], way: Callable[[Path], str]
) -> None:
    model_file(tmp_path)
    assert run("optimize", "m.onnx", "-o", way(tmp_path)) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "is read: name another output" in line


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ["model", "against", "inputs"])
def test_verify_does_not_write_over_what_it_reads(
    run: Run, tmp_path: Path, way: Callable[[Path], str], what: str
) -> None:
    """Whatever the three are: nothing of them is opened before."""
    model_file(tmp_path)
    (tmp_path / "other.h5").write_bytes(b"?")
    (tmp_path / "other.npz").write_bytes(b"?")
    onnx.save(onnx.load(tmp_path / "m.onnx"), tmp_path / "other.onnx")
    model = "m.onnx" if what == "model" else "other.h5"
    converted = "m.onnx" if what == "against" else "other.onnx"
    inputs = "m.onnx" if what == "inputs" else "other.npz"
    output = way(tmp_path)
    assert run("verify", model, converted, "--inputs", inputs, "--json", output) == 2


@pytest.mark.parametrize("output", ["w.bin", "w", "W.bin", "sub/w.bin"])
def test_data_files_are_read_too(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], output: str
) -> None:
    model_file(tmp_path, "w.bin")
    (tmp_path / "w").symlink_to("w.bin")
    (tmp_path / "sub").symlink_to(".")
    (tmp_path / "m.h5").write_bytes(b"?")
    assert run("optimize", "m.onnx", "-o", output) == 2
    assert run("verify", "m.h5", "m.onnx", "--json", output) == 2
    assert capfd.readouterr().err.count("is read") == 2


def test_a_data_file_of_the_output_is_written_too(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model_file(tmp_path, "fast.onnx.data")
    assert run("optimize", "m.onnx", "-o", "fast.onnx") == 2
    assert "fast.onnx.data: is read" in capfd.readouterr().err
    (tmp_path / "link").symlink_to("fast.onnx")
    assert run("optimize", "m.onnx", "-o", "link") == 2
    assert "fast.onnx.data: is " in capfd.readouterr().err
    (tmp_path / "m.h5").write_bytes(b"?")
    assert run("convert", "m.h5", "-o", "o.onnx", "--report", "o.onnx.data") == 2
    assert "as another output too" in capfd.readouterr().err


@pytest.mark.parametrize(
    "report", ["o.onnx", "./o.onnx", "O.ONNX", "here/o.onnx", "link", "straße.onnx"]
)
def test_two_outputs_are_two_files(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], report: str
) -> None:
    (tmp_path / "m.h5").write_bytes(b"?")
    (tmp_path / "here").symlink_to(".")
    (tmp_path / "link").symlink_to("o.onnx")
    output = "STRASSE.onnx" if "ß" in report else "o.onnx"
    assert run("convert", "m.h5", "-o", output, "--report", report) == 2
    assert "as another output too" in capfd.readouterr().err
    assert not (tmp_path / "o.onnx").exists()


@pytest.fixture
def saved_model(tmp_path: Path) -> Path:
    """A directory as of a SavedModel, part of which lies elsewhere."""
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (folder / "saved_model.pb").write_bytes(b"?")
    (folder / "variables" / "variables.index").write_bytes(b"?")
    (folder / "assets").symlink_to("../elsewhere")
    (folder / "round").symlink_to(".")
    (tmp_path / "elsewhere" / "words.txt").write_bytes(b"?")
    (tmp_path / "single.txt").write_bytes(b"?")
    (folder / "keras_metadata.pb").symlink_to("../single.txt")
    os.link(folder / "saved_model.pb", tmp_path / "hard")
    return folder


@pytest.mark.parametrize(
    "output",
    [
        "model/saved_model.pb",
        "model/new.onnx",
        "model/variables/variables.index",
        "model/variables/new.onnx",
        "model/assets/new.onnx",
        "elsewhere/new.onnx",
        "elsewhere/words.txt",
        "single.txt",
        "hard",
    ],
)
def test_nothing_is_written_into_a_directory_that_is_read(
    run: Run, saved_model: Path, capfd: pytest.CaptureFixture[str], output: str
) -> None:
    assert run("convert", "model", "-o", output) == 2
    assert "belongs to model, which is read" in capfd.readouterr().err


def test_beside_it_there_is_room(saved_model: Path) -> None:
    files.check_outputs([saved_model.parent / "new.onnx"], [saved_model])


def test_where_the_streams_go(tmp_path: Path) -> None:
    """``onnxnorm verify … --json o > o``: the shell's file would be lost."""
    with (tmp_path / "o").open("w") as stream:
        kept = os.dup(1)
        os.dup2(stream.fileno(), 1)
        try:
            with pytest.raises(ModelFileError, match="stdout of this command"):
                files.check_outputs([tmp_path / "o"])
        finally:
            os.dup2(kept, 1)
            os.close(kept)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full", "/dev/tty"])
def test_devices_are_no_outputs(device: str) -> None:
    with pytest.raises(ModelFileError, match="not a regular file"):
        files.check_outputs([device])


@pytest.mark.parametrize("name", ["n" * 256, "é" * 128, "d" * 300 + "/m.onnx"])
def test_names_that_are_too_long(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match="too long"):
        files.check_outputs([tmp_path / name])


def test_the_longest_name_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    files.check_outputs(modelfile.written(path))
    modelfile.save(parsed("y = Neg (x)"), path)
    assert modelfile.load(path) == parsed("y = Neg (x)")


@pytest.mark.parametrize("mask", [0o022, 0o077])
@pytest.mark.parametrize("mode", [None, 0o640, 0o600, 0o444, 0o666, 0o755])
def test_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: int, mode: int | None
) -> None:
    """A file keeps the mode of the one that it replaces, also that with large weights."""
    monkeypatch.setattr(modelfile, "INLINE_LIMIT", 1000)
    model = parsed("y = Add (x, large)")
    large = np.ones((6, 400), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(large, "large"))
    paths = modelfile.written(tmp_path / "m.onnx")
    before = os.umask(mask)
    try:
        for path in paths if mode is not None else ():
            path.write_bytes(b"before")
            path.chmod(mode)
        modelfile.save(model, tmp_path / "m.onnx")
    finally:
        os.umask(before)
    expected = 0o666 & ~mask if mode is None else mode
    assert [path.stat().st_mode & 0o7777 for path in paths] == [expected] * 2


def test_what_may_not_be_given_away_is_written_nevertheless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    (tmp_path / "m").write_text("before")
    (tmp_path / "m").chmod(0o640)
    monkeypatch.setattr(os, "chown", refused)
    files.write_text("after", tmp_path / "m")
    assert (tmp_path / "m").read_text() == "after"
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o640
