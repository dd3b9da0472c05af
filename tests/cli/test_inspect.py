from __future__ import annotations

import json
from dataclasses import replace

import onnx
import pytest

from onnxnorm import LayerRecord, NormSpec
from onnxnorm.cli import layers
from onnxnorm.graph import records
from onnxnorm.graph.inspection import inspect

_GROUP = NormSpec("GroupNormalization", (1,), 1e-3, "group", "keras.GroupNormalization", groups=2)
_LAYER = NormSpec(
    *("LayerNormalization", (2, 3), 1e-2, "layer", "__main__.Mine"),
    has_bias=False,
    compute_dtype="float16",
)
_SHAPE = (None, 4, 5, 5)
# Of the nodes of `norm_model`.
RECORDS = (
    LayerRecord(
        *("group", _GROUP.layer_class, _GROUP, "custom", ("group",), "", (_SHAPE,)),
        fused=("Relu",),
        not_fused=("Add 'sum': is an output",),
    ),
    LayerRecord(
        *("layer", _LAYER.layer_class, _LAYER, "custom", ("layer",), ""),
        (_SHAPE, (None, 2)),
    ),
    LayerRecord(
        *("bn", "keras.BatchNormalization", None, "folded", ("choice",)),
        "into the weights of 'choice'",
    ),
)


def test_finds_every_node_with_its_place_and_form(norm_model):
    rows = [
        (r.name, r.domain, r.operator, r.location, r.input_dtype, r.input_shape, r.form)
        for r in inspect(norm_model).nodes
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
    assert {r.name: r.has_function for r in inspect(norm_model).nodes} == {
        "group": True,
        "instance": False,
        "layer": False,
    }


def test_attributes_read_as_they_were_written(norm_model):
    assert inspect(norm_model).nodes[0].attributes == {"axis": 1, "num_groups": 2, "epsilon": 0.001}
    assert inspect(norm_model).nodes[2].attributes == {"axes": [3], "epsilon": 0.01}


def test_norms_in_functions_of_others_are_listed_and_our_bodies_are_not(norm_model):
    norm_model.functions.append(
        onnx.parser.parse_function(
            '<domain: "user", opset_import: ["" : 18]> '
            "block (x, s) => (y) { [inner] y = LayerNormalization (x, s) }"
        )
    )
    assert [(r.name, r.location) for r in inspect(norm_model).nodes][3:] == [
        ("inner", "function user::block")
    ]


def test_records_come_back_and_nodes_of_none_are_told_apart(norm_model):
    records.write(norm_model, RECORDS)
    found = inspect(norm_model)
    assert (found.layers, found.problems) == (RECORDS, ())
    assert [node.name for node in found.nodes] == ["group", "instance", "layer"]
    assert [node.name for node in found.other_nodes] == ["instance"]


def test_a_file_from_elsewhere_shows_its_nodes_and_says_so(norm_model):
    found = inspect(norm_model)
    assert (found.layers, found.other_nodes) == ((), found.nodes)
    (problem,) = found.problems
    assert "no layer records" in problem


def test_unreadable_records_leave_the_nodes(norm_model):
    norm_model.metadata_props.add(key=records.METADATA_KEY, value="[1, 2")
    found = inspect(norm_model)
    assert (found.layers, len(found.nodes)) == ((), 3)
    (problem,) = found.problems
    assert "'onnxnorm.layers' is no list of layer records" in problem


def _into_instance_norm(node):
    node.op_type = "InstanceNormalization"
    kept = [attribute for attribute in node.attribute if attribute.name != "num_groups"]
    del node.attribute[:]
    node.attribute.extend(kept)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_into_instance_norm, "node 'group' is onnxnorm"),
        (lambda node: setattr(node, "domain", ""), "node 'group' is ai.onnx.GroupNormalization"),
    ],
)
def test_records_at_odds_with_the_graph_are_told(norm_model, change, told):
    records.write(norm_model, RECORDS)
    change(norm_model.graph.node[0])
    found = inspect(norm_model)
    assert (found.layers, len(found.nodes)) == (RECORDS, 3)
    (problem,) = found.problems
    assert "layer 'group'" in problem
    assert told in problem


def test_a_record_follows_its_renamed_node(norm_model):
    records.write(norm_model, RECORDS)
    norm_model.graph.node[0].name = "renamed"
    found = inspect(norm_model)
    assert (found.layers[0], found.problems) == (replace(RECORDS[0], nodes=("renamed",)), ())


def test_records_of_nodes_that_are_gone_are_told(norm_model):
    text = json.dumps([replace(RECORDS[0], nodes=("gone",)).to_dict()])
    norm_model.metadata_props.add(key=records.METADATA_KEY, value=text)
    assert "has no node 'gone'" in inspect(norm_model).problems[0]


def test_command_prints_a_row_for_each_node_of_a_file_from_elsewhere(onnxnorm_cli, norm_file):
    outcome = onnxnorm_cli("inspect", norm_file)
    assert (outcome.status, outcome.err) == (0, "")
    header, *rows, note, summary = outcome.out.splitlines()
    assert header.split() == ["node", "operator", "where", "input", "attributes", "form"]
    assert [row.split()[0] for row in rows] == ["group", "instance", "layer"]
    assert "float32 (N,4,5,5)" in rows[0]
    assert rows[0].endswith("custom, function in the file")
    assert rows[1].endswith("native")
    assert rows[2].endswith("custom, needs the library")
    assert note.startswith("note: no layer records")
    assert summary.endswith(
        ": 0 layer records, 3 normalization nodes, which need the onnxnorm library"
    )


def test_command_prints_a_row_for_each_layer(onnxnorm_cli, norm_model, tmp_path):
    records.write(norm_model, RECORDS)
    onnx.save(norm_model, tmp_path / "m.onnx")
    lines = [
        " ".join(line.split())
        for line in onnxnorm_cli("inspect", tmp_path / "m.onnx").out.splitlines()
    ]
    assert lines[:6] == [
        "layer class input spec becomes",
        "group GroupNormalization float32 (?,4,5,5) axes=1, epsilon=0.001, groups=2 custom, 1 node",
        "+ Relu",
        "not fused: Add 'sum': is an output",
        "layer Mine float16 (?,4,5,5) (?,2) LayerNormalization axes=2,3, epsilon=0.01, "
        "has_bias=False custom, 1 node",
        "bn BatchNormalization folded: into the weights of 'choice'",
    ]


@pytest.mark.parametrize("name", ["norm", "encoder/blocks/0/attention/output/norm"])
def test_no_word_is_cut_or_broken_at_80_columns(monkeypatch, capsys, name):
    monkeypatch.setattr("onnxnorm.cli.terminal._WIDTH_OF_A_PIPE", 80)
    layers.show(replace(record, name=f"{name}_{i}") for i, record in enumerate(RECORDS))
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    words = text.split()
    for index, record in enumerate(RECORDS):
        shown = (f"{name}_{index}", record.layer_class.rpartition(".")[2], *record.reason.split())
        assert set(shown) <= set(words)
    assert {"axes=1,", "epsilon=0.001,", "groups=2", "Relu", "'sum':", "output"} <= set(words)


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
