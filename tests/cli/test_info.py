from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata

import pytest

import onnxnorm
from tests.custom_ops.levels import LEVELS


def test_json_tells_versions_and_library(onnxnorm_cli):
    outcome = onnxnorm_cli("info", "--json")
    assert (outcome.status, outcome.err) == (0, "")
    facts = json.loads(outcome.out)
    assert facts["onnxnorm"] == onnxnorm.__version__
    assert facts["numpy"] == metadata.version("numpy")
    assert "CPUExecutionProvider" in facts["providers"]
    assert facts["library"]


@pytest.mark.parametrize("level", [None, "avx1024"])
def test_the_instruction_set_of_the_kernels(level):
    # Chosen once a process.
    environment = {**os.environ, "ONNXNORM_ISA": level or ""}
    command = [sys.executable, "-m", "onnxnorm", "info", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)["instruction set"]
    if level is None:
        assert told in LEVELS
    else:
        assert told.startswith(f"ONNXNORM_ISA={level} is unknown; accepted: ")


def test_a_missing_library_is_explained(onnxnorm_cli, monkeypatch, tmp_path):
    monkeypatch.setenv("ONNXNORM_LIBRARY", str(tmp_path / "absent.so"))
    facts = json.loads(onnxnorm_cli("info", "--json").out)
    assert facts["library"].startswith("none: ")
    assert str(tmp_path / "absent.so") in facts["library"]
    assert facts["instruction set"] == facts["library"]


def test_a_row_for_each_fact(onnxnorm_cli, monkeypatch):
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    lines = onnxnorm_cli("info").out.splitlines()
    assert lines[0].split() == ["onnxnorm", onnxnorm.__version__]
    assert ["tf2onnx", "not", "installed"] in [line.split() for line in lines]
