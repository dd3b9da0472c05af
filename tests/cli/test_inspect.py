from __future__ import annotations

import json

import onnx
import pytest

from onnxnorm.graph.inspection import inspect


def test_finds_every_node_with_its_place_and_form(norm_model):
    rows = [
        (r.name, r.domain, r.operator, r.location, r.input_dtype, r.input_shape, r.form)
        for r in inspect(norm_model)
    ]
    shape = ("N", 4, 5, 5)
    assert rows == [
        ("group", "onnxnorm", "GroupNormalization", "graph", "float32", shape, "custom"),
        ("instance", "", "InstanceNormalization", "graph", "float32", shape, "native"),
        (
            *("layer", "onnxnorm", "LayerNormalization", "graph/choice.then_branch"),
            *("float32", shape, "custom"),
        ),
    ]


def test_tells_whether_a_function_body_is_there(norm_model):
    assert {r.name: r.has_function for r in inspect(norm_model)} == {
        "group": True,
        "instance": False,
        "layer": False,
    }


def test_attributes_read_as_they_were_written(norm_model):
    assert inspect(norm_model)[0].attributes == {"axis": 1, "num_groups": 2, "epsilon": 0.001}
    assert inspect(norm_model)[2].attributes == {"axes": [3], "epsilon": 0.01}


def test_norms_in_functions_of_others_are_listed_and_our_bodies_are_not(norm_model):
    norm_model.functions.append(
        onnx.parser.parse_function(
            '<domain: "user", opset_import: ["" : 18]> '
            "block (x, s) => (y) { [inner] y = LayerNormalization (x, s) }"
        )
    )
    assert [(r.name, r.location) for r in inspect(norm_model)][3:] == [
        ("inner", "function user::block")
    ]


def test_command_prints_a_row_for_each_node(onnxnorm_cli, norm_file):
    outcome = onnxnorm_cli("inspect", norm_file)
    assert (outcome.status, outcome.err) == (0, "")
    header, *rows = outcome.out.splitlines()
    assert header.split() == ["node", "operator", "where", "input", "attributes", "form"]
    assert [row.split()[0] for row in rows] == ["group", "instance", "layer"]
    assert "float32 (N, 4, 5, 5)" in rows[0]
    assert rows[0].endswith("custom, function in the file")
    assert rows[1].endswith("native")
    assert rows[2].endswith("custom, needs the library")


def test_json_is_all_there_is_on_stdout(onnxnorm_cli, norm_file):
    outcome = onnxnorm_cli("inspect", norm_file, "--json")
    assert outcome.status == 0
    assert [node["operator"] for node in json.loads(outcome.out)["nodes"]] == [
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
    ]


def test_a_model_without_norms_is_no_error(onnxnorm_cli, norm_model, tmp_path):
    del norm_model.graph.node[:]
    onnx.save(norm_model, tmp_path / "none.onnx")
    outcome = onnxnorm_cli("inspect", tmp_path / "none.onnx")
    assert outcome.status == 0
    assert outcome.out.endswith("none.onnx: no normalization nodes\n")


@pytest.mark.parametrize("content", [b"", b"text, no model", b"\x89HDF\r\n\x1a\n" + bytes(512)])
def test_other_files_are_refused_in_one_line(onnxnorm_cli, tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    outcome = onnxnorm_cli("inspect", path)
    assert (outcome.status, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"onnxnorm: error: {path}: ")
