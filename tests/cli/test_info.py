from __future__ import annotations

import json
from importlib import metadata

import onnxnorm


def test_json_tells_versions_and_library(onnxnorm_cli):
    outcome = onnxnorm_cli("info", "--json")
    assert (outcome.status, outcome.err) == (0, "")
    facts = json.loads(outcome.out)
    assert facts["onnxnorm"] == onnxnorm.__version__
    assert facts["numpy"] == metadata.version("numpy")
    assert "CPUExecutionProvider" in facts["providers"]
    assert facts["library"]


def test_a_missing_library_is_explained(onnxnorm_cli, monkeypatch, tmp_path):
    monkeypatch.setenv("ONNXNORM_LIBRARY", str(tmp_path / "absent.so"))
    facts = json.loads(onnxnorm_cli("info", "--json").out)
    assert facts["library"].startswith("none: ")
    assert str(tmp_path / "absent.so") in facts["library"]


def test_a_row_for_each_fact(onnxnorm_cli, monkeypatch):
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    lines = onnxnorm_cli("info").out.splitlines()
    assert lines[0].split() == ["onnxnorm", onnxnorm.__version__]
    assert ["tf2onnx", "not", "installed"] in [line.split() for line in lines]
