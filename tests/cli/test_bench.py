from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnx.parser
import pytest

from tests.graph.fusion.graphs import parsed

QUICK = ("--rounds", 1, "--threads", 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    model = parsed("[norm] v = NORM (x, s, b)\n u = Relu (v)\n y = Softmax (u)")
    onnx.save(model, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_a_row_for_each_norm_and_where_the_rest_goes(onnxnorm_cli, path):
    outcome = onnxnorm_cli("bench", path, "--against", path, *QUICK)
    assert (outcome.status, outcome.err) == (0, "")
    lines = [line for line in outcome.out.splitlines() if not line.startswith("note: ")]
    header, norm, totals, whole, other, norms, softmax, summary = lines
    assert header.split() == [
        "norm",
        "operator",
        "input",
        "ms",
        "share",
        "floor",
        "of",
        "its",
        "floor",
    ]
    assert norm.split()[:4] == ["norm", "LayerNormalization", "float", "(1,6,8)"]
    assert totals.split() == ["ms", "quartiles", "share"]
    assert whole.split()[0] == other.split()[0] == str(path)
    assert norms.split()[0] == "norms"
    assert norms.endswith("%")
    assert softmax.split()[0] == "Softmax"
    assert summary.startswith(f"{path}: x float32 (1,6,8), 1 thread; its norms take ")
    assert f"; {path} takes " in summary


def test_a_norm_in_a_subgraph_is_told_with_the_node_that_holds_it(onnxnorm_cli, tmp_path):
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 18]> graph (bool b, float[2,8] x, float[8] s)'
        """=> (float[2,8] y) { [choice] y = If (b) <
            then_branch = one () => (float[2,8] t) { [norm] t = LayerNormalization (x, s) },
            else_branch = other () => (float[2,8] e) { [norm] e = LayerNormalization (x, s) }
        > }"""
    )
    onnx.save(model, tmp_path / "if.onnx")
    outcome = onnxnorm_cli("bench", tmp_path / "if.onnx", *QUICK)
    assert outcome.out.splitlines()[1].startswith("norm (in either branch of choice)  Layer")


@pytest.mark.parametrize(
    ("graph", "told"),
    [
        (
            "g () => (float[2,2] y) <float[2] s = {1, 1}> {"
            "x = RandomNormal <shape = [2,2]> () y = LayerNormalization (x, s) }",
            "no inputs, 1 thread; its norms take",
        ),
        (
            "g (float[N,0,2] x) => (float[N,0,2] y) <float[2] s = {1, 1}> {"
            "y = LayerNormalization (x, s) }",
            "x float32 (1,0,2), 1 thread",
        ),
    ],
)
def test_the_summary_of_no_or_empty_inputs(onnxnorm_cli, tmp_path, graph, told):
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> {graph}')
    onnx.save(model, tmp_path / "m.onnx")
    summary = onnxnorm_cli("bench", tmp_path / "m.onnx", *QUICK).out.splitlines()[-1]
    assert summary.startswith(f"{tmp_path / 'm.onnx'}: {told}")
    assert ("floor" in summary) is ("norms" in told)


def test_json_is_all_there_is_on_stdout(onnxnorm_cli, path):
    outcome = onnxnorm_cli("bench", path, "--shape", "x=2x6x8", "--no-optimize", "--json", *QUICK)
    told = json.loads(outcome.out)
    assert (outcome.status, outcome.err) == (0, "")
    assert told["inputs"] == {"x": ["float32", [2, 6, 8]]}
    assert told["settings"]["optimize"] is False
    assert set(told["nodes"]["others"]) == {"Relu", "Softmax"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--shape", "x=1x6x9"), "m.onnx: ONNX Runtime fails on inputs x [1, 6, 9]"),
        (("--shape", "z=1"), "shapes for unknown inputs"),
        (("--inputs", "absent.npz"), "absent.npz: no such file"),
        (("--against", "absent.onnx"), "absent.onnx: no such file"),
    ],
)
def test_what_does_not_fit_is_one_line(onnxnorm_cli, path, arguments, told):
    outcome = onnxnorm_cli("bench", path, *arguments, *QUICK)
    assert (outcome.status, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith("onnxnorm: error: ")
    assert told in line
