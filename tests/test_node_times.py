"""Where time goes, by profiles that ONNX Runtime wrote and by one with known times."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from onnxnorm import NormSpec, VerificationError, node_times, register
from onnxnorm.graph import native, records
from onnxnorm.graph.records import LayerRecord
from onnxnorm.node_times import NodeTimes, ProfilerTime

RUNS = 3
LOOP = """
<ir_version: 9, opset_import: ["" : 18]>
loops (int64 trips, bool go, float[N,4,8] x, float[8] s) => (float[N,4,8] y) {
    [first] w = LayerNormalization (x, s, s)
    [loop] y = Loop (trips, go, w) <
        body = body (int64 i, bool c, float[N,4,8] a) => (bool d, float[N,4,8] o) {
            d = Identity (c)
            [inner] n = LayerNormalization (a, s, s)
            o = Add (n, a)
        }
    >
}
"""
GROUPS = """
<ir_version: 9, opset_import: ["" : 18, "onnxnorm" : 1]>
groups (float[N,4,5] x) => (float[N,4,5] y) <float[4] s = {1,2,3,4}, float[4] b = {0,1,0,1}>
{
    [group] n = onnxnorm.GroupNormalization <num_groups = 2> (x, s, b)
    y = Neg (n)
}
"""

LOOP_INPUTS = {
    "trips": np.array(5),
    "go": np.array(True),
    "x": np.ones((2, 4, 8), np.float32),
    "s": np.ones(8, np.float32),
}


def profiled(model: onnx.ModelProto, inputs: Mapping[str, Any], folder: Path) -> NodeTimes:
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    register(options, "cpu")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    for _ in range(RUNS):
        session.run(None, inputs)
    return node_times.read(session.end_profiling(), node_times.layers(model))


def test_norms_in_the_body_of_a_loop_count_by_their_calls(tmp_path: Path) -> None:
    found = profiled(onnx.parser.parse_model(LOOP), LOOP_INPUTS, tmp_path)
    assert found.runs == RUNS
    assert [(norm.name, norm.nodes, norm.calls) for norm in found.norms] == [
        ("first", 1, 1),
        ("inner", 1, 5),
    ]
    for norm in found.norms:
        assert norm.operator == "LayerNormalization"
        assert (norm.input_type, norm.input_shape) == ("float", (2, 4, 8))
        assert norm.bytes_moved == 4 * (2 * 64 + 2 * 8)
    assert "Loop" in found.others
    assert "LayerNormalization" not in found.others


# Norms of one name: in the main graph, in branches that differ, and in branches that do not.
SAME_NAME = """
<ir_version: 9, opset_import: ["" : 18]>
same (int64 trips, bool go, float[N,4,8] x, float[8] s) => (float[N,4,8] y) {
    [norm] w = LayerNormalization (x, s, s)
    [loop] y = Loop (trips, go, w) <
        body = body (int64 i, bool c, float[N,4,8] a) => (bool d, float[N,4,8] o) {
            d = Identity (c)
            two = Constant <value_int = 2> ()
            rest = Mod (i, two)
            odd = Cast <to = 9> (rest)
            [differ] p = If (odd) <
                then_branch = t () => (float[N,4,8] e) { [norm] e = LayerNormalization (a, s, s) },
                else_branch = f () => (float[N,4,8] g) {
                    [before] h = Neg (a)
                    [norm] g = LayerNormalization (h, s, s)
                }
            >
            [agree] o = If (odd) <
                then_branch = v () => (float[N,4,8] j) { [norm] j = LayerNormalization (p, s, s) },
                else_branch = u () => (float[N,4,8] k) { [norm] k = LayerNormalization (a, s, s) }
            >
        }
    >
}
"""


def test_norms_of_one_name_are_told_apart_by_their_graphs(tmp_path: Path) -> None:
    found = profiled(onnx.parser.parse_model(SAME_NAME), LOOP_INPUTS, tmp_path)
    assert [(norm.name, norm.inside, norm.nodes, norm.calls) for norm in found.norms] == [
        ("norm", "", 1, 1),
        ("norm", "either branch of differ in loop", 1, 3),
        ("norm", "either branch of agree in loop", 1, 5),
        ("norm", "another branch of differ in loop", 1, 2),
    ]


def test_a_norm_of_ours_is_one_node(tmp_path: Path) -> None:
    inputs = {"x": np.ones((3, 4, 5), np.float32)}
    found = profiled(onnx.parser.parse_model(GROUPS), inputs, tmp_path)
    (norm,) = found.norms
    assert (norm.name, norm.operator, norm.nodes) == ("group", "GroupNormalization", 1)
    assert norm.bytes_moved == 4 * (2 * 60 + 2 * 4)
    assert list(found.others) == ["Neg"]


def test_the_standard_nodes_of_a_layer_count_together(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(GROUPS)
    name = "keras.GroupNormalization"
    spec = NormSpec("GroupNormalization", (1,), 1e-5, "group", name, groups=2)
    records.write(model, [LayerRecord("layer", name, spec, "custom", ("group",))])
    inputs = {"x": np.ones((3, 4, 5), np.float32)}
    found = profiled(native.lower(model), inputs, tmp_path)
    (norm,) = found.norms
    assert norm.name == "layer"
    assert norm.operator == "InstanceNormalization"
    assert norm.nodes > 1
    assert norm.calls == 1
    assert list(found.others) == ["Neg"]


def write(path: Path, *runs: list[tuple[str, str, int, int]]) -> Path:
    """A profile of nodes: name, operator, start and duration, in the order in which they end.

    Graphs are among them, without a name.
    """

    def event(name: str, start: int, duration: int, **arguments: str) -> dict[str, Any]:
        category = "Node" if arguments else "Session"
        return {"cat": category, "name": name, "ts": start, "dur": duration, "args": arguments}

    events = []
    for run in runs:
        events += [
            event(f"{name}_kernel_time", *times, op_name=operator)
            if name
            else event("SequentialExecutor::Execute", *times)
            for name, operator, *times in run
        ]
        events.append(event("SequentialExecutor::Execute", 0, 10**6))
        events.append(event("model_run", 0, 10**6))
    path.write_text("[\n" + ",\n".join(map(json.dumps, events)) + "\n]\n")
    return path


def run(slower: int) -> list[tuple[str, str, int, int]]:
    return [
        ("before", "Conv", 0, 1000 * slower),
        ("inner", "LayerNormalization", 6000, 200 * slower),
        ("add", "Add", 7000, 100 * slower),
        ("", "", 6000, 1500),
        ("inner", "LayerNormalization", 8000, 400 * slower),
        ("add", "Add", 8500, 0),
        ("", "", 8000, 1500),
        ("loop", "Loop", 5000, 5000 * slower),
    ]


def test_times_are_medians_without_those_of_nodes_inside(tmp_path: Path) -> None:
    found = node_times.read(write(tmp_path / "p.json", run(1), run(9), run(2)), {})
    assert found.milliseconds == 12
    assert found.norm_milliseconds == pytest.approx(1.2)
    assert found.norm_share == pytest.approx(0.1)
    assert found.others == pytest.approx({"Loop": 8.6, "Conv": 2.0, "Add": 0.2})
    assert list(found.others) == ["Loop", "Conv", "Add"]
    (norm,) = found.norms
    assert (norm.calls, norm.milliseconds, norm.share) == pytest.approx((2, 1.2, 0.1))


def test_the_profilers_own_time_is_taken_off(tmp_path: Path) -> None:
    own = ProfilerTime(counted=0.1, between=0.2)
    found = node_times.read(write(tmp_path / "p.json", run(1)), {}, own)
    assert found.profiler == own
    assert found.norm_milliseconds == pytest.approx(0.2 + 0.4 - 2 * 0.1)
    loop = 5 - 0.1 - (0.2 + 0.1 + 0.4) - 4 * 0.2
    assert found.others == pytest.approx({"Loop": loop, "Conv": 0.9, "Add": 0})
    assert found.milliseconds == pytest.approx(0.4 + loop + 0.9)


def test_a_profile_without_a_whole_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="give smaller inputs"):
        node_times.read(write(tmp_path / "p.json"), {})
