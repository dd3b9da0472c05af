"""Every promise of SECURITY.md has a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROMISE = re.compile(r"^\| (\d+) \| .+\. \| .+ \| (.+) \|$", re.MULTILINE)
TESTS = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_promise_has_a_test() -> None:
    promises = PROMISE.findall((ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    assert [int(number) for number, _ in promises] == list(range(1, len(promises) + 1))
    assert promises
    missing = [
        f"{number}: {file}::{name}"
        for number, cell in promises
        for file, name in TESTS.findall(cell) or [("", "no test is named")]
        if not _has(ROOT / file, name)
    ]
    assert not missing


def _has(file: Path, name: str) -> bool:
    if not file.is_file():
        return False
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body)
