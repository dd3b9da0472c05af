"""Whatever a file holds, what is printed as JSON is JSON: no NaN, no Infinity."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from onnxnorm import ModelFileError, cli
from onnxnorm.graph import records
from onnxnorm.json_text import json_text
from tests.graph.fusion.graphs import parsed

GRAPH = "y = LpNormalization (x)"
RECORD = {"name": "n", "layer_class": "c", "spec": None, "lowering": "unused", "nodes": []}


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_attributes(value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = parsed(GRAPH)
    model.graph.node[0].attribute.append(helper.make_attribute("alpha", value))
    model.graph.node[0].attribute.append(helper.make_attribute("several", [value, 1.5]))
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert cli.main(["inspect", str(path), "--json"]) == 0
    found = strict(capsys.readouterr().out)["nodes"][0]["attributes"]
    assert found == {"alpha": str(value), "several": [str(value), 1.5]}


@pytest.mark.parametrize("size", [math.nan, math.inf, 1.5, True, {}, []])
def test_sizes_in_records(size: Any) -> None:
    model = onnx.ModelProto()
    record = {**RECORD, "input_shapes": [[None, "N", 4, size]]}
    model.metadata_props.add(key=records.METADATA_KEY, value=json.dumps([record]))
    with pytest.raises(ModelFileError, match="in the place of a size"):
        records.read(model)


def test_numbers_at_any_depth() -> None:
    value = {"a": (1, [math.nan, {"b": math.inf}]), "c": "text"}
    assert strict(json_text(value)) == {"a": [1, ["nan", {"b": "inf"}]], "c": "text"}
