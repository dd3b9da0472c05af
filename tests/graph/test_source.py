from __future__ import annotations

import onnx
import onnx.compose
import onnx.parser

import onnxnorm
from onnxnorm.graph import source
from onnxnorm.graph.inspection import inspect
from onnxnorm.opset import OPERATORS, function, optimized_function

_VERSIONS = {"keras": "2.15.0", "tensorflow": "2.15.1", "tf2onnx": "1.17.0"}
_ALL = {**_VERSIONS, "onnxnorm": onnxnorm.__version__}


def _model(prefix: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 18]>\n'
        f"g (float[N] {prefix}x) => (float[N] {prefix}y) {{ {prefix}y = Relu ({prefix}x) }}"
    )
    source.write(model, f"model {prefix}", _VERSIONS)
    return model


def test_the_producer_and_the_source_are_in_the_file() -> None:
    model = _model("a")
    assert (model.producer_name, model.producer_version) == ("onnxnorm", onnxnorm.__version__)
    assert inspect(model).source == ({**_ALL, "model": "model a"},)
    assert inspect(model).to_dict()["source"] == [{**_ALL, "model": "model a"}]


def test_a_second_source_takes_the_place_of_the_first() -> None:
    model = _model("a")
    source.write(model, "other", _VERSIONS)
    assert [found["model"] for found in source.read(model)] == ["other"]


def test_merged_files_have_both_sources() -> None:
    merged = onnx.compose.merge_models(_model("a"), _model("b"), [("ay", "bx")])
    assert {found["model"] for found in inspect(merged).source} == {"model a", "model b"}


def test_what_is_no_source_is_left_out() -> None:
    model = _model("a")
    for number, value in enumerate(("{", "[1]", '{"model": 3}', "[" * 100_000)):
        model.metadata_props.add(key=f"onnxnorm.source.{number}", value=value)
    assert [found["model"] for found in source.read(model)] == ["model a"]


def test_function_bodies_say_what_they_compute() -> None:
    for operator in OPERATORS.values():
        bodies = [function(operator, 18)]
        bodies += [optimized_function(operator, 18, residual) for residual in (False, True)]
        assert all("Y = " in body.doc_string for body in bodies)
