"""Importing the package is light: the serving machine has no TensorFlow, and commands are quick."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnxnorm

HEAVY = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "numpy", "rich", "typer")


def test_import_pulls_in_nothing_heavy():
    code = f"import onnxnorm, sys; print([m for m in {HEAVY} if m in sys.modules])"
    path = os.pathsep.join([str(Path(onnxnorm.__file__).parents[1]), *sys.path[1:]])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
