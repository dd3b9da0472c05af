"""Where results lie, and whether they are still what the present settings would give.

Every step leaves, in the folder of its model, its files and a stamp: a JSON file with the key that
the files were made from, their checksums, and the step's result. A stamp whose key equals the
present one and whose files are unchanged need not be made again.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Stamp:
    """What a step left for one model.

    Attributes:
        key: everything that the files depend on, as JSON values.
        files: SHA-256 of each file, by its name in the model's folder.
        result: what later steps and the report want to know, as JSON values.
    """

    key: Mapping[str, Any]
    files: Mapping[str, str]
    result: Mapping[str, Any]


def read_stamp(folder: Path, step: str) -> Stamp | None:
    """The stamp of a step; None where there is none or its files are gone or changed."""
    try:
        stamp = Stamp(**json.loads(_stamp_file(folder, step).read_text()))
        unchanged = all(checksum(folder / name) == sha for name, sha in stamp.files.items())
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return stamp if unchanged else None


def write_stamp(
    folder: Path,
    step: str,
    key: Mapping[str, Any],
    files: Sequence[str],
    result: Mapping[str, Any],
) -> Stamp:
    """Records a finished step; the last thing a step does."""
    stamp = Stamp(as_json(key), {name: checksum(folder / name) for name in files}, as_json(result))
    write_json(_stamp_file(folder, step), asdict(stamp))
    return stamp


def is_current(stamp: Stamp | None, key: Mapping[str, Any]) -> bool:
    """Whether the stamp's files were made from this key."""
    return stamp is not None and stamp.key == as_json(key)


def as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value as it reads back from a JSON file: tuples are lists, keys are strings."""
    result: dict[str, Any] = json.loads(json.dumps(value))
    return result


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.cache
def package_checksum(name: str) -> str:
    """SHA-256 over the Python sources of an importable package, which is not imported.

    Taken once in a process, which goes on with the code that it has loaded.
    """
    spec = importlib.util.find_spec(name)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    digest = hashlib.sha256()
    for folder in map(Path, folders):
        for source in sorted(folder.rglob("*.py")):
            digest.update(f"{source.relative_to(folder)} {checksum(source)}\n".encode())
    return digest.hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path`, with its suffix, that takes its place when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON aside and renames it."""
    with replacing(path) as aside:
        aside.write_text(json.dumps(value, indent=1) + "\n")


def _stamp_file(folder: Path, step: str) -> Path:
    return folder / f"{step}.json"
