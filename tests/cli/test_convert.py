from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import onnxnorm
from onnxnorm import modelfile
from onnxnorm.graph.inspection import inspect


def test_prints_what_became_of_each_layer(onnxnorm_cli, keras_file, tmp_path):
    output = tmp_path / "model.onnx"
    outcome = onnxnorm_cli("convert", keras_file, "-o", output)
    assert outcome.status == 0
    rows = [line.split() for line in outcome.out.splitlines()]
    assert [row[0] for row in rows[1:3]] == ["group", "layer"]
    assert rows[-1] == f"{output}: 2 nodes, 2 normalization layers".split()


@pytest.mark.parametrize("lowering", ["custom", "native"])
def test_inspect_shows_the_same_from_the_file_alone(onnxnorm_cli, keras_file, tmp_path, lowering):
    output = tmp_path / "model.onnx"
    arguments = ("convert", keras_file, "-o", output, "--lowering", lowering)
    report = onnxnorm_cli(*arguments).out.splitlines()
    *table, source, _ = onnxnorm_cli("inspect", output).out.splitlines()
    assert table == report[:-1]
    assert re.match(r"from model '\w+': keras \d.*, tf2onnx \d", source)
    report = json.loads(onnxnorm_cli(*arguments, "--json").out)
    found = json.loads(onnxnorm_cli("inspect", output, "--json").out)
    assert (found["layers"], found["problems"]) == (report["layers"], [])


def test_lowering_and_opset_are_passed_on(onnxnorm_cli, keras_file, tmp_path):
    output = tmp_path / "model.onnx"
    arguments = ("convert", keras_file, "-o", output, "--lowering", "native", "--opset", "17")
    assert onnxnorm_cli(*arguments).status == 0
    assert {node.form for node in inspect(output).nodes} == {"native"}
    assert modelfile.load(output).opset_import[0].version == 17


def test_json_and_nothing_else_in_a_fresh_process(keras_file, tmp_path):
    report = tmp_path / "layers.json"
    arguments = ["convert", keras_file, "-o", tmp_path / "m.onnx", "--json", "--report", report]
    path = os.pathsep.join([str(Path(onnxnorm.__file__).parents[1]), *sys.path[1:]])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    done = subprocess.run(
        [sys.executable, "-m", "onnxnorm", *map(str, arguments)],
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert {layer["name"] for layer in json.loads(done.stdout)["layers"]} == {"group", "layer"}
    assert json.loads(report.read_text()) == json.loads(done.stdout)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-o", "absent/m.onnx"], "no directory"),
        (["-o", "."], "is a directory"),
        (["-o", "m.onnx", "--report", "absent/r.json"], "no directory"),
        (["-o", "m.onnx", "--opset", "99"], "99"),
    ],
)
def test_what_cannot_be_written_is_told(
    onnxnorm_cli, keras_file, tmp_path, monkeypatch, arguments, told
):
    monkeypatch.chdir(tmp_path)
    outcome = onnxnorm_cli("convert", keras_file, *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert told in line
    assert os.listdir(tmp_path) == []


def test_the_model_is_not_overwritten_by_its_conversion(onnxnorm_cli, keras_file):
    before = keras_file.read_bytes()
    outcome = onnxnorm_cli("convert", keras_file, "-o", keras_file)
    assert outcome.status == 2
    assert "is read" in outcome.err
    assert keras_file.read_bytes() == before


@pytest.mark.parametrize("suffix", [".h5", ".keras", ".onnx"])
@pytest.mark.parametrize("content", [b"", b"text, no model", "truncated"])
def test_a_damaged_model_leaves_the_output_alone(
    onnxnorm_cli, keras_file, tmp_path, suffix, content
):
    whole = keras_file.read_bytes()
    damaged, output = tmp_path / f"damaged{suffix}", tmp_path / "out.onnx"
    damaged.write_bytes(whole[: len(whole) // 2] if content == "truncated" else content)
    output.write_text("before")
    outcome = onnxnorm_cli("convert", damaged, "-o", output)
    assert (outcome.status, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"onnxnorm: error: {damaged}")
    assert output.read_text() == "before"
