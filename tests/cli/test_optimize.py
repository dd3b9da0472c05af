from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from onnxnorm import modelfile
from tests.graph.fusion.graphs import operators, parsed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    model = parsed(
        "[norm] v = NORM (x, s, b)\n u = Relu (v)\n [last] y = NORM (u, s, b)\n z = Neg (y)",
        outputs="float[N,6,8] y, float[N,6,8] z",
    )
    modelfile.save(model, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_writes_the_optimized_file_and_tells_of_each_node(onnxnorm_cli, path, tmp_path):
    outcome = onnxnorm_cli("optimize", path, "-o", tmp_path / "fast.onnx")
    assert (outcome.status, outcome.err) == (0, "")
    header, norm, last, summary = outcome.out.splitlines()
    assert header.split() == ["node", "operator", "took", "in", "left,", "and", "why"]
    assert norm.split() == ["norm", "LayerNormalization", "Relu"]
    assert last.split()[:2] == ["last", "LayerNormalization"]
    assert "is an output of the graph" in last
    assert summary.endswith("fast.onnx: 4 nodes, now 3")
    after = modelfile.load(tmp_path / "fast.onnx")
    assert operators(after) == "LayerNormalization LayerNormalization Neg"


def test_json_is_all_there_is_on_stdout(onnxnorm_cli, path, tmp_path):
    told = json.loads(onnxnorm_cli("optimize", path, "-o", tmp_path / "fast.onnx", "--json").out)
    assert (told["nodes_before"], told["nodes"]) == (4, 3)
    assert [fusion["fused"] for fusion in told["fusions"]] == [["Relu"], []]


def test_the_file_may_take_its_own_place(onnxnorm_cli, path):
    assert onnxnorm_cli("optimize", path, "-o", path).status == 0
    assert len(modelfile.load(path).graph.node) == 3


def test_a_model_without_our_nodes_is_written_as_it_is(onnxnorm_cli, norm_model, tmp_path):
    del norm_model.graph.node[:], norm_model.functions[:]
    onnx.save(norm_model, tmp_path / "m.onnx")
    outcome = onnxnorm_cli("optimize", tmp_path / "m.onnx", "-o", tmp_path / "same.onnx")
    assert outcome.out.endswith("same.onnx: no onnxnorm nodes, written as it is\n")
    assert modelfile.load(tmp_path / "same.onnx") == norm_model


def test_where_nothing_can_be_written_nothing_is_read(onnxnorm_cli, tmp_path):
    outcome = onnxnorm_cli("optimize", tmp_path / "absent.onnx", "-o", tmp_path / "no" / "m.onnx")
    assert outcome.status == 2
    assert "no directory" in outcome.err
