"""Results are replaced whole or not at all, and are made again when they must be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.steps import workspace


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    path.write_text("old")

    def fail_halfway() -> None:
        with workspace.replacing(path) as aside:
            aside.write_text("half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_finished_write_replaces_it_and_makes_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "result.txt"
    with workspace.replacing(path) as aside:
        assert aside.suffix == path.suffix
        aside.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.bin").write_bytes(b"model")
    workspace.write_stamp(tmp_path, "train", {"sizes": (1, 2)}, ["model.bin"], {"accuracy": 0.9})
    return tmp_path


def test_stamp_is_current_for_its_key_only(folder: Path) -> None:
    stamp = workspace.read_stamp(folder, "train")
    assert stamp is not None
    assert stamp.result == {"accuracy": 0.9}
    assert workspace.is_current(stamp, {"sizes": (1, 2)})
    assert not workspace.is_current(stamp, {"sizes": (1, 3)})
    assert not workspace.is_current(None, {"sizes": (1, 2)})


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.bin", None),
        ("model.bin", b"another model"),
        ("train.json", None),
        ("train.json", b""),
        ("train.json", b'{"key": {}'),
        ("train.json", b"[]"),
        ("train.json", b'{"key": {}, "files": 3, "result": {}}'),
    ],
)
def test_missing_or_changed_files_void_a_stamp(
    folder: Path, file: str, content: bytes | None
) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    assert workspace.read_stamp(folder, "train") is None


def test_package_checksum_follows_the_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_package_of_this_test"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    before = workspace.package_checksum(package.name)
    assert workspace.package_checksum(package.name) == before
    (package / "more.py").write_text("")
    assert workspace.package_checksum(package.name) == before
    workspace.package_checksum.cache_clear()
    assert workspace.package_checksum(package.name) != before
