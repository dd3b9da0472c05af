from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from onnxnorm import cpu_kind, modelfile
from onnxnorm.graph import cpu_target
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
    assert summary.endswith("fast.onnx: 4 nodes, now 3; runs without the native library")
    after = modelfile.load(tmp_path / "fast.onnx")
    assert operators(after) == "LayerNormalization LayerNormalization Neg"


def test_json_is_all_there_is_on_stdout(onnxnorm_cli, path, tmp_path):
    told = json.loads(onnxnorm_cli("optimize", path, "-o", tmp_path / "fast.onnx", "--json").out)
    assert (told["nodes_before"], told["nodes"]) == (4, 3)
    assert [fusion["fused"] for fusion in told["fusions"]] == [["Relu"], []]
    assert told["needs_library"] is False


@pytest.mark.parametrize("more", [(), ("--this-cpu",)])
def test_metadata_that_tell_of_no_cpu_are_told_of_before_a_file_is_written(
    onnxnorm_cli, path, tmp_path, more
):
    model = modelfile.load(path)
    model.metadata_props.add(key=cpu_target.METADATA_KEY, value="many")
    modelfile.save(model, path)
    outcome = onnxnorm_cli("optimize", path, "-o", tmp_path / "fast.onnx", *more)
    assert outcome.status == 2
    assert outcome.err.startswith(f"onnxnorm: error: {path}: the metadata 'onnxnorm.cpu' tell of")
    assert not (tmp_path / "fast.onnx").exists()


def test_the_file_does_not_take_its_own_place(onnxnorm_cli, path):
    before = path.read_bytes()
    outcome = onnxnorm_cli("optimize", path, "-o", path)
    assert outcome.status == 2
    assert outcome.err == f"onnxnorm: error: {path}: is read: name another output\n"
    assert path.read_bytes() == before


def test_a_model_without_our_nodes_is_written_as_it_is(onnxnorm_cli, norm_model, tmp_path):
    del norm_model.graph.node[:], norm_model.functions[:]
    onnx.save(norm_model, tmp_path / "m.onnx")
    outcome = onnxnorm_cli("optimize", tmp_path / "m.onnx", "-o", tmp_path / "same.onnx")
    assert outcome.out.endswith("same.onnx: no onnxnorm nodes, written as it is\n")
    assert modelfile.load(tmp_path / "same.onnx") == norm_model


@pytest.fixture
def convolutions(tmp_path: Path) -> Path:
    """A norm between two convolutions."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18, "onnxnorm" : 1]> '
        """graph (float[N,3,8,8] x) => (float[N,16,8,8] y) {
            c = Conv (x, w1)
            [norm] n = onnxnorm.InstanceNormalization (c, s, s)
            r = Relu (n)
            y = Conv (r, w2)
        }"""
    )
    for name, shape in {"w1": (16, 3, 1, 1), "w2": (16, 16, 1, 1), "s": (16,)}.items():
        values = np.ones(shape, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_for_this_cpu(onnxnorm_cli, convolutions, tmp_path):
    fast = tmp_path / "fast.onnx"
    outcome = onnxnorm_cli("optimize", convolutions, "--this-cpu", "-o", fast)
    assert (outcome.status, outcome.err) == (0, "")
    here = cpu_kind.here()
    assert outcome.out.splitlines()[-2:] == [
        f"{fast}: 4 nodes, now 4",
        f"{fast}: 1 of 1 norms work in blocks; for {here} only; needs the native library",
    ]
    assert f"1 normalization nodes, for {here} only" in onnxnorm_cli("inspect", fast).out
    again = onnxnorm_cli("optimize", fast, "--this-cpu", "-o", tmp_path / "again.onnx")
    assert again.status == 2
    assert again.err.startswith(f"onnxnorm: error: {fast}: is already optimized for {here}")


def test_for_this_cpu_as_json(onnxnorm_cli, convolutions, tmp_path):
    arguments = ("optimize", convolutions, "--this-cpu", "-o", tmp_path / "fast.onnx", "--json")
    told = json.loads(onnxnorm_cli(*arguments).out)
    here = cpu_kind.here()
    assert told["in_blocks"] == ["norm"]
    assert told["needs_library"] is True
    assert told["cpu"] == {"channel_block": here.channel_block, "onnxruntime": here.onnxruntime}


def test_without_convolutions_any_cpu_is_this_cpu(onnxnorm_cli, path, tmp_path):
    outcome = onnxnorm_cli("optimize", path, "--this-cpu", "-o", tmp_path / "fast.onnx")
    assert "fast.onnx: runs on any CPU: no norm stands behind a convolution" in outcome.out
    assert outcome.out.endswith("; runs without the native library\n")
    onnxnorm_cli("optimize", path, "-o", tmp_path / "plain.onnx")
    assert modelfile.load(tmp_path / "fast.onnx") == modelfile.load(tmp_path / "plain.onnx")


def test_where_nothing_can_be_written(onnxnorm_cli, path, tmp_path):
    outcome = onnxnorm_cli("optimize", path, "-o", tmp_path / "no" / "m.onnx")
    assert outcome.status == 2
    assert "no directory" in outcome.err
