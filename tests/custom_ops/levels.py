"""Running a test file at one instruction set level, which a process chooses once."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

ON_ARM = platform.machine() in ("aarch64", "arm64")
LEVELS = ("neon",) if ON_ARM else ("baseline", "avx2", "avx512", "avx512_bf16")
PROBE = "import onnxruntime, onnxnorm; onnxnorm.register(onnxruntime.SessionOptions())"


def rerun_at(level: str, file: str, selected: str) -> None:
    """The selected tests of the file, in a process of its own that is held to one level."""
    if os.environ.get("ONNXNORM_ISA"):
        pytest.skip("already held to one level")
    probe = _python(level, "-c", PROBE)
    if "this CPU does not have it" in probe.stderr:
        pytest.skip(f"this CPU has no {level}")
    assert probe.returncode == 0, probe.stderr
    arguments = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", file, "-k", selected]
    tests = _python(level, *arguments)
    assert tests.returncode == 0, tests.stdout


def _python(level: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "ONNXNORM_ISA": level},
        capture_output=True,
        text=True,
        check=False,
    )
