"""What is timed, and on what; the times themselves no test can know."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from onnxnorm import MissingDependencyError, ModelFileError, VerificationError, benchmark
from onnxnorm.benchmark import Settings
from onnxnorm.graph import records
from onnxnorm.node_times import ProfilerTime
from tests.graph.fusion.graphs import as_type, parsed

QUICK = Settings(threads=1, rounds=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return saved(parsed("[norm] v = NORM (x, s, b)\n y = Relu (v)"), tmp_path / "m.onnx")


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def text(statements: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> {statements}')


def test_all_that_it_finds(path: Path, tmp_path: Path) -> None:
    told: list[float] = []
    plain = saved(parsed("y = Sqrt (input)", inputs="float[N,6,8] input"), tmp_path / "plain.onnx")
    found = benchmark.bench(path, plain, Settings(1, rounds=2, batch=3), advance=told.append)
    assert found.file == str(path)
    assert found.inputs == {"x": ("float32", (3, 6, 8))}
    assert found.whole.calls == 8
    (norm,) = found.nodes.norms
    assert (norm.name, norm.operator) == ("norm", "LayerNormalization")
    assert norm.bytes_moved == 4 * (2 * 3 * 6 * 8 + 2 * 8)
    assert norm.floor is not None
    assert norm.floor > 0
    assert found.nodes.others == {}  # the activation has gone into the norm
    assert found.other is not None
    assert found.other.file == str(plain)
    assert 0 < found.other.first_quartile <= found.other.times_as_long
    assert found.other.times_as_long <= found.other.third_quartile
    assert told[-1] == 1
    assert json.loads(json.dumps(found.to_dict()))["nodes"]["norms"][0]["name"] == "norm"


def test_the_file_as_it_is(path: Path) -> None:
    found = benchmark.bench(path, None, Settings(1, rounds=1, optimize=False))
    assert list(found.nodes.others) == ["Relu"]
    assert found.other is None


@pytest.mark.parametrize("profile", ["", "profile"])
def test_pools_of_sessions_do_not_spin_in_the_turns_of_others(
    path: Path, tmp_path: Path, profile: str
) -> None:
    session = benchmark._session(path, Settings(2), profile and str(tmp_path / profile))
    options = session.get_session_options()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert options.intra_op_num_threads == 2


TWO_INPUTS = """two (float[batch,time,8] x, int32[batch,time] ids) => (float[batch,time,8] y)
<float[8] s = {1,1,1,1,1,1,1,1}, int64[1] last = {-1}> {
    n = LayerNormalization (x, s)
    f = Cast <to = 1> (ids)
    u = Unsqueeze (f, last)
    y = Add (n, u)
}"""


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        (QUICK, (1, 8)),
        (Settings(1, 1, batch=3), (3, 8)),
        (Settings(1, 1, shapes={"ids": (2, 5)}), (2, 5)),
        (Settings(1, 1, shapes={"ids": (2, 5), "x": (2, 5, 8)}), (2, 5)),
    ],
)
def test_sizes_of_inputs(tmp_path: Path, settings: Settings, sizes: tuple[int, int]) -> None:
    file = saved(text(TWO_INPUTS), tmp_path / "m.onnx")
    found = benchmark.bench(file, None, settings)
    assert found.inputs == {"x": ("float32", (*sizes, 8)), "ids": ("int32", sizes)}


def test_a_batch_that_does_not_come_first_everywhere(tmp_path: Path) -> None:
    """As in a recurrent network whose first axis is time."""
    lines = """steps (float[time,batch,8] x, float[batch,8] state) => (float[time,batch,8] y)
    <float[8] s = {1,1,1,1,1,1,1,1}> {
        n = LayerNormalization (x, s)
        y = Add (n, state)
    }"""
    file = saved(text(lines), tmp_path / "m.onnx")
    found = benchmark.bench(file, None, Settings(1, 1, batch=3))
    assert found.inputs == {"x": ("float32", (3, 3, 8)), "state": ("float32", (3, 8))}


def test_inputs_of_the_caller(path: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((5, 6, 8), np.float32))
    found = benchmark.bench(path, None, QUICK, tmp_path / "x.npz")
    assert found.inputs == {"x": ("float32", (5, 6, 8))}


@pytest.mark.parametrize("element", ["float16", "double"])
def test_other_element_types(tmp_path: Path, element: str) -> None:
    model = as_type(parsed("[norm] y = NORM (x, s, b)"), element)
    found = benchmark.bench(saved(model, tmp_path / "m.onnx"), None, QUICK)
    (norm,) = found.nodes.norms
    assert norm.input_type == element
    assert norm.bytes_moved == {"float16": 2, "double": 8}[element] * (2 * 6 * 8 + 2 * 8)


def test_bfloat16(tmp_path: Path) -> None:
    pytest.importorskip("ml_dtypes")
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 18, "onnxnorm" : 1]> '
        "g (bfloat16[N,6,8] x, bfloat16[8] s) => (bfloat16[N,6,8] y) "
        "{ y = onnxnorm.LayerNormalization <axes = [-1]> (x, s, s) }"
    )
    file = saved(model, tmp_path / "m.onnx")
    if not hasattr(onnxruntime.OrtValue, "ortvalue_from_numpy_with_onnx_type"):
        with pytest.raises(MissingDependencyError, match=r"install 1\.20"):
            benchmark.bench(file, None, QUICK)
        return
    (norm,) = benchmark.bench(file, None, QUICK).nodes.norms
    assert (norm.input_type, norm.bytes_moved) == ("bfloat16", 2 * (2 * 6 * 8 + 2 * 8))


def test_what_a_session_warns_of_is_a_note(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("broken")

    monkeypatch.setattr("onnxnorm.graph.fusion.in_memory.optimized", broken)
    note = benchmark.bench(path, None, QUICK).notes[0]
    assert "runs as it is" in note


def test_the_profilers_own_time_is_measured(tmp_path: Path) -> None:
    """Most of what it tells of so small norms is that."""
    count = 50
    lines = [f"x{place + 1} = NORM (x{place}, s, b)" for place in range(count)]
    model = parsed("\n".join(lines), inputs="float[N,6,8] x0", outputs=f"float[N,6,8] x{count}")
    found = benchmark.bench(saved(model, tmp_path / "m.onnx"), None, Settings(1, rounds=5))
    assert len(found.nodes.norms) == count
    assert found.nodes.milliseconds > 0
    assert found.nodes.profiler.counted > 0
    assert found.nodes.profiler.between > 0


@pytest.mark.parametrize(("counted", "notes"), [(0.0, 0), (100.0, 1)])
def test_norms_that_take_less_than_the_profiler_are_told_of(
    path: Path, monkeypatch: pytest.MonkeyPatch, counted: float, notes: int
) -> None:
    monkeypatch.setattr(benchmark, "_profiler_time", lambda *_: ProfilerTime(counted))
    found = benchmark.bench(path, None, QUICK)
    assert (found.nodes.norms[0].milliseconds > 0) is not bool(notes)
    assert len(found.notes) == notes
    assert all("rough figures for 1 of 1 norms" in note for note in found.notes)


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ({"z": (1,)}, r"unknown inputs \['z'\].*\['x'\]"),
        ({"x": (1, 6)}, r"m\.onnx: ONNX Runtime fails on inputs x \[1, 6\]"),
        ({"x": (2**40, 6, 8)}, r"inputs .*1099511627776.* take 3.93e\+05 GiB, and at most 4"),
        ({"x": (2**80, 6, 8)}, r"take over 9.31e\+08 GiB"),
        ({"x": (1, 6, 9)}, r"m\.onnx: ONNX Runtime fails on inputs x \[1, 6, 9\]"),
    ],
)
def test_shapes_that_do_not_fit(path: Path, shapes: dict[str, tuple[int, ...]], told: str) -> None:
    with pytest.raises(VerificationError, match=told):
        benchmark.bench(path, None, Settings(1, 1, shapes=shapes))


def test_a_batch_for_which_there_is_no_room(path: Path, tmp_path: Path) -> None:
    told = "batch 2: no input has a first dimension whose size is open"
    settings = Settings(1, 1, batch=2, shapes={"x": (1, 6, 8)})
    with pytest.raises(VerificationError, match=told):
        benchmark.bench(path, None, settings)
    fixed = parsed("[norm] y = NORM (x, s, b)", inputs="float[1,6,8] x")
    file = saved(fixed, tmp_path / "fixed.onnx")
    with pytest.raises(VerificationError, match=told):
        benchmark.bench(file, None, Settings(1, 1, batch=2))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"z": np.ones(3, np.float32)}, "missing"),
        ({"x": np.ones((1, 6, 8))}, "is float64, the model takes float32"),
        ({"x": np.ones((1, 6), np.float32)}, "ONNX Runtime fails on inputs"),
        ("absent.npz", "no such file"),
    ],
)
def test_arrays_that_do_not_fit(path: Path, given: object, told: str) -> None:
    with pytest.raises(VerificationError, match=told):
        benchmark.bench(path, None, QUICK, given)


@pytest.mark.parametrize(
    ("graph", "told"),
    [
        ("g (string[N] x) => (string[N] y) { y = Identity (x) }", "'x' is tensor.string."),
        ("g (seq(float[N]) x) => (float[N] y) { y = ConcatFromSequence <axis = 0> (x) }", "'x' is"),
        (
            "g (float[N] x) => (float[N] y) { y = Neg (x) }",
            "no normalization node runs; norms that",
        ),
        (
            "g () => (float[1,2] y) <float[1,2] x = {1,2}> { y = LayerNormalization (x, x) }",
            "no normalization node runs; its LayerNormalization nodes are .* part of .* constants",
        ),
    ],
)
def test_files_that_cannot_be_timed(tmp_path: Path, graph: str, told: str) -> None:
    file = saved(text(graph), tmp_path / "m.onnx")
    with pytest.raises(VerificationError, match=told):
        benchmark.bench(file, None, QUICK)


def test_an_input_of_any_rank_can_be_given_one(tmp_path: Path) -> None:
    model = parsed("[norm] y = NORM (x, s, b)")
    model.graph.input[0].type.tensor_type.ClearField("shape")
    file = saved(model, tmp_path / "m.onnx")
    told = "'x' has an unknown rank: give its shape, --shape x=1x224x224x3, or an array"
    with pytest.raises(VerificationError, match=told):
        benchmark.bench(file, None, QUICK)
    for settings, given in (
        (Settings(1, 1, shapes={"x": (2, 3, 8)}), None),
        (QUICK, {"x": np.ones((2, 3, 8), np.float32)}),
    ):
        found = benchmark.bench(file, None, settings, given)
        assert found.inputs == {"x": ("float32", (2, 3, 8))}


def test_nothing_to_normalize_has_no_floor(tmp_path: Path) -> None:
    model = parsed("[norm] y = NORM (x, s, b)", inputs="float[N,0,8] x", outputs="float[N,0,8] y")
    found = benchmark.bench(saved(model, tmp_path / "m.onnx"), None, QUICK)
    (norm,) = found.nodes.norms
    assert (norm.input_shape, norm.bytes_moved, norm.floor) == ((1, 0, 8), 0, None)


def test_norms_of_a_loop_that_runs_no_turn_are_told_of(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]>
        g (int64 count, float[2,8] x) => (float[2,8] y) <float[8] s = {1,1,1,1,1,1,1,1}> {
            none = Constant <value = bool {1}> ()
            y = Loop (count, none, x) <body = b (int64 i, bool on, float[2,8] u)
                => (bool still, float[2,8] v) {
                    still = Identity (on)
                    v = LayerNormalization (u, s)
                }>
        }"""
    )
    file = saved(model, tmp_path / "loop.onnx")
    arrays = {"count": np.int64(0), "x": np.ones((2, 8), np.float32)}
    np.savez(tmp_path / "none.npz", **arrays)
    with pytest.raises(VerificationError, match=r"in loops that run no turn .*--inputs"):
        benchmark.bench(file, None, QUICK, tmp_path / "none.npz")
    np.savez(tmp_path / "two.npz", **{**arrays, "count": np.int64(2)})
    (norm,) = benchmark.bench(file, None, QUICK, tmp_path / "two.npz").nodes.norms
    assert norm.calls == 2


def test_a_group_norm_of_onnx_is_told_to_be_taken_apart(tmp_path: Path) -> None:
    """ONNX Runtime runs its function body, whose nodes tell nothing of where they are from."""
    own = "v = GroupNormalization <num_groups = 2> (x, s, s)"
    ours = "[ours] y = onnxnorm.InstanceNormalization (v, s, s)"
    start = (
        '<ir_version: 10, opset_import: ["" : 21, "onnxnorm" : 1]> '
        "g (float[N,4,8] x) => (float[N,4,8] {}) <float[4] s = {{1,1,1,1}}> {{ {} }}"
    )
    told = "1 GroupNormalization nodes of ONNX's own domain are taken apart"
    alone = onnx.parser.parse_model(start.format("v", own))
    file = saved(alone, tmp_path / "alone.onnx")
    with pytest.raises(VerificationError, match=f"no normalization node runs; {told}"):
        benchmark.bench(file, None, QUICK)
    both = onnx.parser.parse_model(start.format("y", f"{own} {ours}"))
    found = benchmark.bench(saved(both, tmp_path / "both.onnx"), None, QUICK)
    assert [norm.name for norm in found.nodes.norms] == ["ours"]
    assert any(note.startswith(told) for note in found.notes)


@pytest.mark.parametrize(
    ("graph", "told"),
    [
        ("g (float16[N,6,8] x) => (float16[N,6,8] y) { y = Neg (x) }", "other inputs.*float16"),
        ("g (float[N,6,8] x, float[N] z) => (float[N,6,8] y) { y = Neg (x) }", "missing .'z'"),
        ("g (float[N,7,8] x) => (float[N,7,8] y) { y = Neg (x) }", "fails on inputs x .1, 6, 8."),
    ],
)
def test_another_file_with_other_inputs(path: Path, tmp_path: Path, graph: str, told: str) -> None:
    other = saved(text(graph), tmp_path / "other.onnx")
    with pytest.raises(VerificationError, match=f"other.onnx: .*{told}"):
        benchmark.bench(path, other, QUICK)


def test_files_that_are_none(path: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(path.read_bytes()[:-40])
    for file, against in ((tmp_path / "broken.onnx", None), (path, tmp_path / "broken.onnx")):
        with pytest.raises(ModelFileError, match=r"broken\.onnx: "):
            benchmark.bench(file, against, QUICK)
    with pytest.raises(ModelFileError, match=r"absent\.onnx: no such"):
        benchmark.bench(path, tmp_path / "absent.onnx", QUICK)


def test_layer_records_that_are_damaged(tmp_path: Path) -> None:
    model = parsed("[norm] y = NORM (x, s, b)")
    model.metadata_props.add(key=records.METADATA_KEY, value="{")
    with pytest.raises(ModelFileError, match=r"m\.onnx: the metadata 'onnxnorm.layers'"):
        benchmark.bench(saved(model, tmp_path / "m.onnx"), None, QUICK)


def test_external_tensors_that_are_missing(tmp_path: Path) -> None:
    model = parsed("[norm] y = NORM (x, s, b)")
    onnx.save(
        model, tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    (tmp_path / "w").unlink()
    with pytest.raises(ModelFileError, match=r"m\.onnx: cannot read its external tensors"):
        benchmark.bench(tmp_path / "m.onnx", None, QUICK)
