from __future__ import annotations

import onnx
import onnx.parser
import onnx.printer

from onnxnorm.graph import readable_names
from onnxnorm.graph.nodes import all_graphs

_MODEL = """
<ir_version: 9, opset_import: ["" : 18, "onnxnorm" : 1]>
g (float[unk__1,unk__2,4] x, bool choose, float[unk__3] other, float[M,2] named)
=> (float[unk__4,unk__5,4] y, float[unk__6,4] rows, float[unk__7] first, float[M,2] same)
<float[4] p = {1,1,1,1}, int64[2] shape = {-1,4}>
{
    [norm] "m/norm/PyFunc:0" = onnxnorm.LayerNormalization (x, p, p)
    ["m/norm/PyFunc__12"] "m/norm/PyFunc__12:0" = Relu ("m/norm/PyFunc:0")
    [choice] y = If (choose) <
        then_branch = one () => (float[unk__8,unk__9,4] "c/PyFunc:0") {
            [inner] "c/PyFunc:0" = onnxnorm.LayerNormalization ("m/norm/PyFunc__12:0", p, p)
        },
        else_branch = two () => (float[unk__10,unk__11,4] z) { z = Neg ("m/norm/PyFunc:0") }
    >
    rows = Reshape ("m/norm/PyFunc:0", shape)
    first = Relu (other)
    same = Relu (named)
}
"""


def _text(text: str) -> onnx.ModelProto:
    """The model, whose names the parser takes without quotes only."""
    plain = {"m/norm/PyFunc:0": "a1", "m/norm/PyFunc__12:0": "a2", "c/PyFunc:0": "a3"}
    for name, short in {**plain, "m/norm/PyFunc__12": "a4"}.items():
        text = text.replace(f'"{name}"', short)
    model = onnx.parser.parse_model(text)
    readable_names.rename_values(model, {short: name for name, short in plain.items()})
    model.graph.node[1].name = "m/norm/PyFunc__12"
    return model


def _dimensions(values: object) -> dict[str, list[str | int]]:
    return {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in values  # type: ignore[attr-defined]
    }


def test_values_are_named_after_layers() -> None:
    model = _text(_MODEL)
    readable_names.name_values(model)
    assert model.graph.node[0].output[0] == "norm/output"
    assert model.graph.node[1].name == "m/norm/normalized__12"
    assert list(model.graph.node[1].input) == ["norm/output"]
    branch, other = list(all_graphs(model.graph))[1:]
    assert branch.output[0].name == branch.node[0].output[0] == "inner/output"
    assert list(branch.node[0].input)[:1] == ["m/norm/normalized__12:0"]
    assert list(other.node[0].input) == ["norm/output"]
    assert "PyFunc" not in onnx.printer.to_text(model)
    assert [value.name for value in model.graph.output] == ["y", "rows", "first", "same"]


def test_the_batch_is_named_where_it_is_the_same() -> None:
    model = _text(_MODEL)
    readable_names.name_dimensions(model)
    assert _dimensions(model.graph.input) == {
        "x": ["batch", "x_dim_1", 4],
        "choose": [],
        "other": ["batch"],
        "named": ["M", 2],
    }
    outputs = _dimensions(model.graph.output)
    assert outputs["rows"] == ["rows_dim_0", 4]
    assert outputs["first"] == ["batch"]
    assert outputs["same"] == ["M", 2]
    assert outputs["y"][1:] == ["y_dim_1", 4]
    assert "unk__" not in onnx.printer.to_text(model)
