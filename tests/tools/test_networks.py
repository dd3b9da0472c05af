"""The table of real networks, on one that is small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("tensorflow")

from tools import networks
from tools.network_study import failure_reason

FAST = ("--small", "--rounds", "2", "--conversions", "1", "--threads", "1")


def test_table_and_json(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    result = CliRunner().invoke(networks.app, ["dcgan", *FAST, "--json", str(file)])
    assert result.exit_code == 0, result.output
    (row,) = (line for line in result.stdout.splitlines() if line.startswith("dcgan"))
    assert "→ 15" in row
    assert "pass" in row
    (found,) = json.loads(file.read_text())["networks"]
    assert found["norm_nodes"] == found["layers"] == 3
    assert found["graphs"]["plain"]["nodes"] > found["graphs"]["custom"]["nodes"]
    assert set(found["timings"]) == {"plain", "custom", "optimized"}


def test_unknown_network_is_refused() -> None:
    result = CliRunner().invoke(networks.app, ["alexnet"])
    assert result.exit_code == 2
    assert "no network 'alexnet'; there are convnext_tiny, " in result.stderr


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("Nodes in a graph: No Op registered for Erfc with domain_version of 18", "Erfc"),
        ("Fatal error: PartitionedCall(-1) is not a registered function/op", "PartitionedCall"),
    ],
)
def test_unknown_operation_is_named(message: str, reason: str) -> None:
    assert failure_reason(RuntimeError(message)) == f"no ONNX form for {reason}"


def test_words_that_keras_puts_round_a_cause_are_left_out() -> None:
    message = "in user code:\n\n  File 1\n  Exception encountered when calling A.call().\n\n"
    message += "  \x1b[1mThe structure differs.\n\n  Arguments received by A.call():\n  - inputs"
    assert failure_reason(ValueError(message)) == "The structure differs."
    assert failure_reason(KeyError("keras_tensor_7")) == "'keras_tensor_7'"
