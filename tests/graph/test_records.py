"""Layer records in a model: written, read back, and kept true by the passes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import onnx
import onnx.parser
import pytest

from onnxnorm import ModelFileError, NormSpec
from onnxnorm.graph import native, records
from onnxnorm.graph.records import METADATA_KEY, NODE_KEY, LayerRecord
from onnxnorm.limits import RECORD_CHARACTERS

SPEC = NormSpec("GroupNormalization", (1,), 1e-3, "group", "keras.GroupNormalization", groups=2)
GROUP = LayerRecord(
    "group",
    SPEC.layer_class,
    SPEC,
    "custom",
    ("group", "group_1"),
    input_shapes=((None, 4, 5),) * 2,
)
FOLDED = LayerRecord("bn", "keras.BatchNormalization", None, "folded", ("conv",), "into 'conv'")


@pytest.fixture
def model() -> onnx.ModelProto:
    return onnx.parser.parse_model(
        """
        <ir_version: 9, opset_import: ["" : 18, "onnxnorm" : 1], metadata_props: ["owner": "me"]>
        twice (float[N,4,5] x) => (float[N,4,5] z)
        <float[4] s = {1,2,3,4}, float[4] b = {0,0,0,0}, float[N,4,5] y>
        {
            [group] y = onnxnorm.GroupNormalization <num_groups = 2> (x, s, b)
            [group_1] z = onnxnorm.GroupNormalization <num_groups = 2> (y, s, b)
        }
        """
    )


def test_reads_back_what_it_wrote_beside_the_metadata_of_others(model: onnx.ModelProto) -> None:
    assert records.read(model) == ()
    for written in ((FOLDED,), (GROUP, FOLDED)):
        records.write(model, written)
        assert records.read(onnx.ModelProto.FromString(model.SerializeToString())) == written
    assert [entry.key.rpartition(".")[0] for entry in model.metadata_props] == ["", METADATA_KEY]
    assert [[entry.key for entry in n.metadata_props] for n in model.graph.node] == [[NODE_KEY]] * 2
    assert model.ir_version == 10


def test_files_of_earlier_releases_are_read(model: onnx.ModelProto) -> None:
    text = json.dumps([GROUP.to_dict(), FOLDED.to_dict()])
    model.metadata_props.add(key=METADATA_KEY, value=text)
    assert records.read(model) == (GROUP, FOLDED)
    records.note_fusions(model, {}, {})
    assert METADATA_KEY not in {entry.key for entry in model.metadata_props}
    assert records.read(model) == (GROUP, FOLDED)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "3",
        "{}",
        '["group"]',
        "[{}]",
        json.dumps([{**GROUP.to_dict(), "lowering": "melted"}]),
        json.dumps([{**GROUP.to_dict(), "nodes": "group"}]),
        json.dumps([{**GROUP.to_dict(), "name": 3}]),
        json.dumps([{**GROUP.to_dict(), "input_shapes": 7}]),
        json.dumps([{**GROUP.to_dict(), "spec": {"operator": "GroupNormalization"}}]),
        json.dumps([{**GROUP.to_dict(), "spec": {**GROUP.to_dict()["spec"], "operator": "New"}}]),
    ],
)
def test_other_metadata_under_the_keys_is_refused_and_left_alone(
    model: onnx.ModelProto, text: str
) -> None:
    node = onnx.ModelProto.FromString(model.SerializeToString())
    model.metadata_props.add(key=METADATA_KEY, value=text)
    node.graph.node[1].metadata_props.add(key=NODE_KEY, value=text)
    for damaged, told in (model, METADATA_KEY), (node, f"node 'group_1': the metadata '{NODE_KEY}"):
        before = damaged.SerializeToString()
        with pytest.raises(ModelFileError, match=f"{re.escape(told)}' is no list of layer records"):
            records.read(damaged)
        records.note_fusions(damaged, {"group": ["Relu"]}, {})
        assert damaged.SerializeToString() == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("position", value) for value in (-1, "0", 1.5, None, 10**400)],
        *[("node", value) for value in (None, 3, ["group"])],
        ("first_node", {}),
        ("input_shapes", 7),
    ],
)
def test_other_fields_of_a_nodes_record_are_refused(
    model: onnx.ModelProto, field: str, value: Any
) -> None:
    records.write(model, (GROUP,))
    (entry,) = model.graph.node[1].metadata_props
    entry.value = json.dumps([{**part, field: value} for part in json.loads(entry.value)])
    with pytest.raises(ModelFileError, match=f"node 'group_1': the metadata '{NODE_KEY}'"):
        records.read(model)


def test_records_longer_than_the_limit_stay_with_the_model(model: onnx.ModelProto) -> None:
    long = replace(GROUP, reason="x" * RECORD_CHARACTERS)
    records.write(model, (long, GROUP))
    assert model.ByteSize() < 2 * RECORD_CHARACTERS
    assert set(records.read(model)) == {long, GROUP}


def test_several_layers_are_folded_into_one_node(model: onnx.ModelProto) -> None:
    written = tuple(replace(FOLDED, name=name, nodes=("group_1",)) for name in ("bn", "bn_1"))
    records.write(model, (GROUP, *written))
    assert records.read(model) == (GROUP, *written)


def test_fields_of_a_later_version_are_no_error(model: onnx.ModelProto) -> None:
    later: dict[str, Any] = {**FOLDED.to_dict(), "colour": "red"}
    model.metadata_props.add(key=METADATA_KEY, value=json.dumps([later]))
    assert records.read(model) == (FOLDED,)


def test_native_lowering_tells_the_nodes_that_it_made(model: onnx.ModelProto) -> None:
    records.write(model, (GROUP, FOLDED))
    lowered = native.lower(model)
    group, folded = records.read(lowered)
    assert group.lowering == "native"
    assert list(group.nodes) == [node.name for node in lowered.graph.node]
    assert replace(group, lowering="custom", nodes=GROUP.nodes) == GROUP
    assert folded == FOLDED
    assert records.read(model) == (GROUP, FOLDED)


def test_fusions_add_up_and_name_the_node_where_there_are_several(model: onnx.ModelProto) -> None:
    records.write(model, (GROUP, FOLDED))
    records.note_fusions(model, {"group": ["Add 'sum'"]}, {"group_1": ["Relu: is an output"]})
    records.note_fusions(model, {"group": ["Relu"]}, {})
    group, folded = records.read(model)
    assert (group.fused, group.not_fused) == (("group: Add 'sum'", "group: Relu"), ())
    assert folded == FOLDED
    alone = replace(GROUP, nodes=("group",))
    records.write(model, (alone,))
    records.note_fusions(model, {}, {"group": ["Relu: is an output"]})
    assert records.read(model) == (replace(alone, not_fused=("Relu: is an output",)),)


def test_a_model_without_records_stays_without(model: onnx.ModelProto) -> None:
    records.note_fusions(model, {"group": ["Relu"]}, {})
    assert [entry.key for entry in model.metadata_props] == ["owner"]
