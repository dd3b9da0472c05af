from __future__ import annotations

import os

import pytest

from onnxnorm import files
from onnxnorm.errors import ModelFileError


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_text("before")

    def interrupted() -> None:
        with files.aside(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["m.onnx"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent/m.onnx", "no directory"),
        (".", "is a directory"),
        ("pipe", "not a regular file"),
    ],
)
def test_where_no_file_can_be_written(tmp_path, name, reason):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match=reason):
        files.check_outputs([tmp_path / name])
    with pytest.raises(ModelFileError, match=reason):
        files.write_text("text", tmp_path / name)


def test_a_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ModelFileError, match="no permission"):
        files.check_outputs([tmp_path / "m.onnx"])


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    files.write_text("text", tmp_path / "link")
    assert (tmp_path / "target").read_text() == "text"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_what_can_be_no_name(name):
    for use in (files.destination, files.exists, lambda path: files.open_regular(path, "a file")):
        with pytest.raises(ModelFileError, match="cannot"):
            use(name)
