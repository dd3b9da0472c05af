from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxnorm


@pytest.fixture(scope="module")
def pair(keras_file, tmp_path_factory) -> tuple[Path, Path]:
    """A Keras file and the ONNX file made of it."""
    path = tmp_path_factory.mktemp("pair") / "model.onnx"
    onnxnorm.convert(keras_file).save(path)
    return keras_file, path


@pytest.fixture
def wrong_file(pair, tmp_path) -> Path:
    """The ONNX file with another scale."""
    model = onnx.load(pair[1])
    (node,) = (n for n in model.graph.node if n.op_type == "GroupNormalization")
    (scale,) = (t for t in model.graph.initializer if t.name == node.input[1])
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * 1.01, scale.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    return tmp_path / "wrong.onnx"


def test_status_0_in_parity(onnxnorm_cli, pair):
    outcome = onnxnorm_cli("verify", *pair)
    assert outcome.status == 0
    assert "in parity" in outcome.out


def test_status_1_not_in_parity(onnxnorm_cli, pair, wrong_file):
    outcome = onnxnorm_cli("verify", pair[0], wrong_file)
    assert outcome.status == 1
    assert "FAILED" in outcome.out
    assert outcome.err.splitlines()[-1].endswith(f"{wrong_file} is not in parity with {pair[0]}")


def test_json_goes_to_stdout_or_a_file(onnxnorm_cli, pair, wrong_file, tmp_path):
    assert json.loads(onnxnorm_cli("verify", *pair, "--json", "-").out)["passed"]
    onnxnorm_cli("verify", pair[0], wrong_file, "--json", tmp_path / "report.json")
    assert not json.loads((tmp_path / "report.json").read_text())["passed"]


def test_inputs_come_from_a_file(onnxnorm_cli, pair, tmp_path):
    np.savez(tmp_path / "inputs.npz", image=np.ones((3, 5, 5, 4), np.float32))
    arguments = ("--inputs", tmp_path / "inputs.npz", "--json", "-")
    (record,) = json.loads(onnxnorm_cli("verify", *pair, *arguments).out)["inputs"]
    assert record["shape"] == [3, 5, 5, 4]


def test_sizes_are_named(onnxnorm_cli, pair):
    outcome = onnxnorm_cli("verify", *pair, "--size", "image:0=3", "--json", "-")
    (record,) = json.loads(outcome.out)["inputs"]
    assert record["shape"] == [3, 5, 5, 4]
    for value, says in (
        ("image:1=6", "no unknown dimension 'image:1'; it has image:0"),
        ("image:0", "NAME=N is expected"),
        ("image:0=x", "NAME=N is expected"),
        ("=3", "NAME=N is expected"),
        ("image:0=²", "NAME=N is expected"),
    ):
        outcome = onnxnorm_cli("verify", *pair, "--size", value)
        assert outcome.status == 2
        assert says in outcome.err
        assert len(outcome.err.splitlines()) == 1


def test_a_size_is_given_once(onnxnorm_cli, pair):
    outcome = onnxnorm_cli("verify", *pair, "--size", "image:0=3", "--size", "image:0=4")
    assert outcome.status == 2
    assert "the dimension has a size already" in outcome.err


def test_pickled_inputs_are_refused(onnxnorm_cli, pair, tmp_path):
    np.savez(tmp_path / "inputs.npz", image=np.array([{"any": "object"}], dtype=object))
    outcome = onnxnorm_cli("verify", *pair, "--inputs", tmp_path / "inputs.npz")
    assert (outcome.status, outcome.out) == (2, "")
    assert len(outcome.err.splitlines()) == 1


def test_the_file_of_another_model_is_refused(onnxnorm_cli, pair, norm_file):
    outcome = onnxnorm_cli("verify", pair[0], norm_file)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("onnxnorm: error: ")
