from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

from onnxnorm import LayerRecord, NormSpec
from onnxnorm.cli import layers
from onnxnorm.graph import native, records
from onnxnorm.graph.inspection import inspect
from onnxnorm.graph.nodes import attributes_of, set_attributes
from onnxnorm.opset import OPERATORS

_GROUP = NormSpec("GroupNormalization", (1,), 1e-3, "group", "keras.GroupNormalization", groups=2)
_LAYER = NormSpec(
    *("LayerNormalization", (3,), 1e-2, "layer", "__main__.Mine"),
    has_scale=False,
)
_SHAPE = (None, 4, 5, 5)
# Of the nodes of `norm_model`.
RECORDS = (
    LayerRecord(
        *("group", _GROUP.layer_class, _GROUP, "custom", ("group",), "", (_SHAPE,)),
        not_fused=("Add 'sum': is an output",),
    ),
    LayerRecord(
        *("layer", _LAYER.layer_class, _LAYER, "custom", ("layer",), ""),
        (_SHAPE, (None, 4, 2, 5)),
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
        (_into_instance_norm, "node 'group' is onnxnorm.InstanceNormalization"),
        (lambda node: setattr(node, "domain", ""), "node 'group' is ai.onnx.GroupNormalization"),
    ],
)
def test_records_at_odds_with_the_graph_are_told(norm_model, change, told):
    records.write(norm_model, RECORDS)
    change(norm_model.graph.node[0])
    found = inspect(norm_model)
    assert (found.layers, len(found.nodes)) == (RECORDS, 3)
    problem, *others = found.problems
    assert "layer 'group'" in problem
    assert told in problem
    assert all("'renamed'" in other for other in others)


def _set(name, value):
    def change(model):
        node = model.graph.node[0]
        set_attributes(node, {**attributes_of(node), name: value})

    return change


def _without(name):
    def change(model):
        node = model.graph.node[0]
        given = attributes_of(node)
        given.pop(name)
        set_attributes(node, given)

    return change


def _replace_scale(value):
    def change(model):
        tensor = onnx.numpy_helper.from_array(np.asarray(value, np.float32), "scale")
        model.graph.initializer[0].CopyFrom(tensor)

    return change


def _input(elem_type, shape):
    def change(model):
        model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("x", elem_type, shape))

    return change


def _take_in_a_residual(model):
    model.graph.node[0].op_type = "ResidualGroupNormalization"
    model.graph.node[0].input.append("x")


def _twice(model):
    model.graph.node.add().CopyFrom(model.graph.node[0])
    model.graph.node[-1].output[0] = "again"


def _another(model):
    _twice(model)
    model.graph.node[-1].name = "another"
    model.graph.node[-1].ClearField("metadata_props")


_FLOAT, _DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
# What is done to the file, what the problem says of it, and the layer as the file has it.
_CHANGES = {
    "epsilon": (_set("epsilon", 0.5), "epsilon is 0.5 in the file, 0.001 in the record", "0.5"),
    "default epsilon": (_without("epsilon"), "epsilon is 1e-05 in the file, 0.001", "1e-05"),
    "groups": (_set("num_groups", 4), "num_groups is 4 in the file, 2 in the record", "groups=4"),
    "axis": (_set("axis", 2), "axis is (2) in the file, (1) in the record", "axes=2"),
    "negative axis": (_set("axis", -1), "axis is (3) in the file, (1) in the record", "axes=3"),
    "stash_type": (_set("stash_type", 11), "stash_type is 11 in the file, 1 in the record", ""),
    "activation": (_set("activation", "Relu"), "fused is Relu in the file, nothing in", ""),
    "residual": (_take_in_a_residual, "fused is a residual in the file, nothing in", ""),
    "shape of scale": (_replace_scale([1, 2]), "shape of scale is (2) in the file, (4) in", ""),
    "scale": (
        lambda model: model.graph.initializer[1].float_data.__setitem__(0, 7.0),
        "bias is not all zeros in the file, absent in the record",
        "(?,4,5,5) axes=1, epsilon=0.001, groups=2 custom",
    ),
    "dtype": (
        _input(_DOUBLE, ("N", 4, 5, 5)),
        "input's type is float64 in the file, float32 in the record",
        "float64",
    ),
    "shape": (
        _input(_FLOAT, ("N", 4, 6, 5)),
        "input's shape is (N,4,6,5) in the file, (?,4,5,5) in the record",
        "(N,4,6,5)",
    ),
    "two nodes": (_twice, "2 nodes are named 'group' in the file, 1 in the record", ""),
    "another node": (_another, "no layer record of node 'another'", ""),
}


@pytest.mark.parametrize("name", _CHANGES)
def test_what_the_file_says_is_shown_and_told(norm_model, onnxnorm_cli, tmp_path, name):
    change, told, shown = _CHANGES[name]
    group = replace(RECORDS[0], spec=replace(_GROUP, has_bias=False))
    records.write(norm_model, (group, *RECORDS[1:]))
    change(norm_model)
    onnx.save(norm_model, tmp_path / "m.onnx")
    out = onnxnorm_cli("inspect", tmp_path / "m.onnx").out
    text = " ".join(out.split())
    assert told in text
    row = text[text.index("group ") : text.index("layer Mine")]
    assert shown in row


def test_axes_of_a_transposed_layer_are_those_of_its_node(norm_model):
    layer = replace(RECORDS[0], spec=replace(_GROUP, axes=(3,)), node_axes=((1,),))
    records.write(norm_model, (replace(layer, input_shapes=((None, 5, 5, 4),)), *RECORDS[1:]))
    assert inspect(norm_model).problems == ()
    _set("axis", 2)(norm_model)
    problem, *_ = inspect(norm_model).problems
    assert "axis is (2) in the file, (1) in the record" in problem


@pytest.mark.parametrize(
    ("operator", "spec", "change", "told"),
    [
        ("LayerNormalization", {}, ("axis", 1), "axis is (1,2,3) in the file, (3) in the record"),
        ("LayerNormalization", {}, ("epsilon", 0.5), "epsilon is 0.5 in the file, 0.01 in the"),
        ("GroupNormalization", {"groups": 2}, ("epsilon", 0.5), "epsilon is 0.5 in the file"),
        ("GroupNormalization", {"groups": 2}, ("groups", 4), "num_groups is 4 in the file, 2 in"),
        ("InstanceNormalization", {}, ("epsilon", 0.5), "epsilon is 0.5 in the file, 0.01 in the"),
        ("RMSNormalization", {}, ("constant epsilon", 0.5), "epsilon is 0.5 in the file, 0.01"),
        ("UnitNormalization", {}, ("constant epsilon", 0.5), "epsilon is 0.5 in the file, 0.01"),
        ("UnitNormalization", {}, ("constant axes", [2]), "axes is (2) in the file, (3) in the"),
    ],
)
def test_standard_operators_are_compared_too(operator, spec, change, told):
    name, value = change
    channels = operator in ("GroupNormalization", "InstanceNormalization")
    own = NormSpec(operator, (1,) if channels else (3,), 1e-2, "norm", "keras.Norm", **spec)
    given = OPERATORS[operator].attributes_of(own)
    parameter = "float[4] p = {1,2,3,4}" if channels else "float[5] p = {1,2,3,4,5}"
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 18, "onnxnorm" : 1]>\n'
        f"norm (float[N,4,5,5] x) => (float[N,4,5,5] y) <{parameter}>"
        f"{{ [norm] y = onnxnorm.{operator} (x, p, p) }}"
    )
    set_attributes(model.graph.node[0], given)
    record = LayerRecord("norm", "keras.Norm", own, "custom", ("norm",), "", ((None, 4, 5, 5),))
    records.write(model, [record])
    lowered = native.lower(model)
    assert inspect(lowered).problems == ()
    for tensor in lowered.graph.initializer:
        if name == f"constant {tensor.name.removeprefix('norm/')}":
            kind = np.float32 if "epsilon" in name else np.int64
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(value, kind), tensor.name))
        if name == "groups" and tensor.name == "norm/view_4d":
            view = np.array([0, value, 4 // value, 25])
            tensor.CopyFrom(onnx.numpy_helper.from_array(view, tensor.name))
    for node in lowered.graph.node:
        if name in attributes_of(node):
            set_attributes(node, {**attributes_of(node), name: value})
    found = inspect(lowered)
    (problem,) = found.problems
    assert told in problem
    assert found.layers[0].spec != own


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
    assert lines[:5] == [
        "layer class input spec becomes",
        "group GroupNormalization float32 (?,4,5,5) axes=1, epsilon=0.001, groups=2 custom, 1 node",
        "not fused: Add 'sum': is an output",
        "layer Mine float32 (?,4,5,5) (?,4,2,5) LayerNormalization axes=3, epsilon=0.01, "
        "has_scale=False custom, 1 node",
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
    assert {"axes=1,", "epsilon=0.001,", "groups=2", "'sum':", "output"} <= set(words)


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
