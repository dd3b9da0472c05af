"""Converted files after other tools joined, cut, renamed or raised them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.compose
import onnx.parser
import onnx.utils
import onnx.version_converter
import pytest

import onnxnorm
from onnxnorm import NormSpec
from onnxnorm.graph import records
from onnxnorm.graph.inspection import inspect
from onnxnorm.graph.records import LayerRecord
from onnxnorm.opset import OPERATORS, function

UNUSED = LayerRecord("bn", "keras.BatchNormalization", None, "unused", (), "is not called")


def record(name: str = "group", epsilon: float = 0.5) -> LayerRecord:
    spec = NormSpec("GroupNormalization", (1,), epsilon, name, "keras.GroupNormalization", groups=2)
    return LayerRecord(
        *(name, spec.layer_class, spec, "custom", (name, f"{name}_1")),
        input_shapes=((None, 4, 3), (2, 4, 3)),
    )


def converted(name: str = "group", epsilon: float = 0.5, opset: int = 18) -> onnx.ModelProto:
    """A layer that is called twice, and one that is not."""
    attributes = f"num_groups = 2, epsilon = {epsilon}"
    model = onnx.parser.parse_model(f"""
        <ir_version: 9, opset_import: ["" : {opset}, "onnxnorm" : 1]>
        part (float[N, 4, 3] x) => (float[N, 4, 3] z) <float[4] s = {{1, 2, 3, 4}},
            float[4] b = {{0, 1, 0, 1}}, float[N, 4, 3] y> {{
            [{name}] y = onnxnorm.GroupNormalization <{attributes}> (x, s, b)
            [{name}_1] z = onnxnorm.GroupNormalization <{attributes}> (y, s, b)
        }}""")
    model.functions.append(function(OPERATORS["GroupNormalization"], opset))
    records.write(model, [record(name, epsilon), UNUSED])
    return model


def joined(first: onnx.ModelProto, second: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.compose.merge_models(first, second, [("z", "x")], prefix1="a_", prefix2="b_")


def renamed(layer: LayerRecord, *nodes: str) -> LayerRecord:
    return replace(layer, nodes=nodes)


@pytest.mark.parametrize(
    "other", [{}, {"epsilon": 0.25}, {"name": "second"}], ids=["same", "changed", "another"]
)
def test_joined_files_keep_the_records_of_both(other: dict[str, Any]) -> None:
    name = other.get("name", "group")
    layers = (
        renamed(record(), "a_group", "a_group_1"),
        renamed(record(**other), f"b_{name}", f"b_{name}_1"),
        UNUSED,
    )
    model = joined(converted(), converted(**other))
    assert records.read(model) == layers
    optimized = onnxnorm.optimize(model)
    assert [replace(layer, not_fused=()) for layer in records.read(optimized)] == list(layers)
    assert inspect(optimized).problems == ()
    # Equal layers stay apart in a file that is joined with itself once more.
    again = onnx.compose.merge_models(
        optimized, optimized, [("b_z", "a_x")], prefix1="c_", prefix2="d_"
    )
    assert [layer.nodes for layer in records.read(again)[:4]] == [
        tuple(f"{prefix}{node}" for node in layer.nodes)
        for prefix in ("c_", "d_")
        for layer in layers[:2]
    ]


def test_parts_keep_the_records_of_their_nodes(tmp_path: Path) -> None:
    onnx.save(joined(converted(), converted()), tmp_path / "whole.onnx")
    onnx.utils.extract_model(
        str(tmp_path / "whole.onnx"), str(tmp_path / "part.onnx"), ["a_y"], ["b_y"]
    )
    # The second call of one layer and the first of another, which is equal.
    first, second = record().input_shapes
    assert inspect(tmp_path / "part.onnx").layers == (
        replace(record(), nodes=("a_group_1",), input_shapes=(second,)),
        replace(record(), nodes=("b_group",), input_shapes=(first,)),
    )
    assert onnxnorm.optimize(tmp_path / "part.onnx").graph.node[0].op_type == "GroupNormalization"


def test_a_prefix_goes_into_the_records() -> None:
    model = converted()
    records.note_fusions(model, {"group_1": ["Relu"]}, {})
    prefixed = onnx.compose.add_prefix(model, "p_")
    expected = replace(renamed(record(), "p_group", "p_group_1"), fused=("p_group_1: Relu",))
    assert records.read(prefixed) == (expected, UNUSED)


def test_external_data_do_not_touch_the_records(tmp_path: Path) -> None:
    onnx.save(
        converted(),
        tmp_path / "m.onnx",
        save_as_external_data=True,
        size_threshold=0,
        location="m.data",
    )
    assert inspect(tmp_path / "m.onnx").layers == (record(), UNUSED)
    assert records.read(onnxnorm.optimize(tmp_path / "m.onnx"))[0].nodes == ("group", "group_1")


def test_nodes_without_names_keep_their_records() -> None:
    model = joined(converted(), converted(epsilon=0.25))
    for node in model.graph.node:
        node.name = ""
    model.graph.node.insert(0, onnx.helper.make_node("Identity", ["a_x"], ["unread"]))
    optimized = onnxnorm.optimize(model)
    for layers in (records.read(model), records.read(optimized)):
        assert [layer.spec for layer in layers[:2]] == [record().spec, record(epsilon=0.25).spec]
    assert not optimized.graph.node[0].metadata_props


@pytest.mark.parametrize("opset", [15, 18, 21])
def test_joined_files_run_our_kernels(tmp_path: Path, opset: int) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    first, second = converted(opset=opset), converted(epsilon=0.25, opset=opset)
    model = joined(first, second)
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "runs.onnx")
    (actual,) = onnxnorm.InferenceSession(model, options).run(None, {"a_x": x})
    runs = onnx.load(tmp_path / "runs.onnx")
    assert [node.op_type for node in runs.graph.node] == ["GroupNormalization"] * 4
    expected = x
    for part in (first, second):
        (expected,) = onnxruntime.InferenceSession(part.SerializeToString()).run(
            None, {"x": expected}
        )
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def _prefixed(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.compose.add_prefix(model, "p_")


def _with_another_body(model: onnx.ModelProto) -> onnx.ModelProto:
    model.functions[0].node[-1].op_type = "Neg"
    return model


def _without_import(model: onnx.ModelProto) -> onnx.ModelProto:
    del model.opset_import[1]
    return model


def _raised(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.version_converter.convert_version(model, 19)


def _in_another_domain(model: onnx.ModelProto) -> onnx.ModelProto:
    for part in (model.opset_import[1], *model.functions, *model.graph.node):
        part.domain = "elsewhere"
    return model


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_prefixed, "onnxnorm::p_GroupNormalization; sessions and optimize give them"),
        (_in_another_domain, "elsewhere::GroupNormalization; optimize gives them"),
        (_with_another_body, "onnxnorm::GroupNormalization is not the operator's body"),
        (_without_import, "does not import it"),
        (_raised, "no layer record of node 'group', 'group_1': another tool took it"),
    ],
)
def test_inspect_tells_what_another_tool_did(
    change: Callable[[onnx.ModelProto], onnx.ModelProto], told: str
) -> None:
    model = change(converted())
    before = model.SerializeToString()
    found = inspect(model)
    (problem,) = found.problems
    assert told in problem
    assert "\n" not in problem
    assert [node.operator for node in found.nodes] == ["GroupNormalization"] * 2
    assert model.SerializeToString() == before
