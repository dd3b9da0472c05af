"""The benchmark: who is wrong is not timed, results outlive their file, what is not met is said."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("tensorflow_addons")
pytest.importorskip("matplotlib")

from onnxnorm.opset.activations import ACTIVATIONS
from tools import environment
from tools.bench import __main__ as command
from tools.bench import contests, network_files, page, plots, results, tables, targets, tensors
from tools.bench.cases import COPY, FIRST, LAST, OPERATORS, SERIES, Layer, Network
from tools.bench.race import Contestant, Course, Pace, processors
from tools.bench.results import Entry, Race, Report, Share

SMALL = Layer("group", (2, 4, 4, 8), 4)
PACE = Pace(3, 0.001)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    network_files.write_layers(folder, [SMALL, SMALL.stored(FIRST)])
    return folder


@pytest.mark.parametrize("layout", [LAST, FIRST])
def test_race_of_real_peers(files: Path, layout: str) -> None:
    everybody = contests.operator(SMALL.stored(layout))
    chosen = (COPY, contests.OURS, contests.FLOAT16, contests.BFLOAT16, contests.PLAIN)
    with Course(processors(1), files) as course:
        found = course.race({label: everybody[label] for label in chosen}, PACE)
    for label in chosen[1:]:
        assert not found[label].failure
        assert len(found[label].times) == PACE.rounds
        assert found[label].error is not None
    assert found[contests.OURS].error < 1e-5
    # Nobody is left out: where there is no PyTorch, that is what is said.
    assert found[COPY].times or "not installed" in found[COPY].failure


def test_wrong_file_and_missing_file_are_shown_and_not_timed(files: Path, tmp_path: Path) -> None:
    other = Layer("group", (2, 4, 4, 8), 2)
    shutil.copy(files / SMALL.file("plain"), tmp_path / other.file("plain"))
    contestants = {
        "wrong": Contestant("onnxruntime", "plain", other),
        "missing": Contestant("onnxruntime", "native", other),
        "right": Contestant("onnxruntime", "node", other),
    }
    with Course(processors(1), tmp_path) as course:
        found = course.race(contestants, PACE)
    assert found["wrong"].failure.startswith("wrong: off by ")
    assert found["missing"].failure.startswith("cannot: ")
    assert not found["wrong"].times
    assert not found["missing"].times
    assert len(found["right"].times) == PACE.rounds


def test_processes_are_gone_after_the_race(files: Path) -> None:
    with Course(processors(1), files) as course:
        process = course.process("ours", "onnxruntime")
        number = process._process.pid
        assert process.failure is None
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_network_and_its_norms_share(tmp_path: Path) -> None:
    network = Network("mnist_group_norm", 2)
    network_files.write_network(tmp_path, network.name, [network.batch])
    peers = contests.network(network)
    chosen = (contests.OPTIMIZED, contests.THIS_CPU, contests.PLAIN, contests.TENSORFLOW)
    with Course(processors(1), tmp_path) as course:
        found = course.race({label: peers[label] for label in chosen}, PACE)
        ask = course.process("profiler", "onnxruntime").ask
        share = ask("measure", "norm_share", network, "optimized", tmp_path)
    assert [entry.failure for entry in found.values()] == [""] * len(chosen)
    assert 0 < share < 1


@pytest.mark.parametrize(
    ("found", "failure"),
    [
        ([1.0, 2.00005], ""),
        ([1.0, 2.01], "wrong: off by 1.0e-02"),
        ([1.0, np.nan], "wrong: off by nan"),
        ([1.0], "wrong: 1 elements, not 2"),
    ],
)
def test_judgement(found: list[float], failure: str) -> None:
    _, said = tensors.judge(np.array(found), np.array([1.0, 2.0]), 1e-4)
    assert said == failure


def test_expected_is_the_formula() -> None:
    layer = dataclasses.replace(SMALL, activation="Relu", residual=True)
    x = tensors.x(SMALL).astype(np.float64)
    groups = x.reshape(2, 16, 4, 2)
    deviation = groups - groups.mean((1, 3), keepdims=True)
    normalized = deviation / np.sqrt(groups.var((1, 3), keepdims=True) + 1e-3)
    y = normalized.reshape(x.shape) * tensors.scale(SMALL) + tensors.bias(SMALL) + x[::-1]
    np.testing.assert_allclose(tensors.expected(layer), np.maximum(y, 0).ravel(), atol=1e-12)


def test_samples_meet_every_channel() -> None:
    for layer in OPERATORS:
        channel = np.broadcast_to(np.arange(layer.channels), layer.shape)
        assert len(np.unique(tensors.samples(channel))) == layer.channels


def _entry(milliseconds: float) -> Entry:
    return Entry((milliseconds, milliseconds * 1.1, milliseconds * 0.9), 1e-6)


def _report(times: dict[str, float] | None = None, large: int = 2**21) -> Report:
    """Ours takes one millisecond, everybody else what suffices; or as told."""
    milliseconds = {
        COPY: 0.8,
        contests.OURS: 1.0,
        contests.FLOAT16: 0.6,
        contests.BFLOAT16: 0.7,
        contests.TORCH[LAST]: 2.0,
        contests.TORCH[FIRST]: 1.5,
        contests.NATIVE: 5.0,
        contests.PLAIN: 12.0,
        contests.OPENVINO: 4.0,
        contests.TENSORFLOW: 9.0,
        **dict.fromkeys((*ACTIVATIONS, "residual"), 1.05),
        contests.OPTIMIZED: 1.0,
        contests.THIS_CPU: 0.9,
        **dict.fromkeys(contests.BATCH_NORM, 0.9),
        **dict.fromkeys(contests.OURS_IN.values(), 1.0),
        **(times or {}),
    }

    def race(kind: str, subject: str, labels: object, **more: object) -> Race:
        entries = {label: _entry(milliseconds[label]) for label in labels if label in milliseconds}
        return Race(kind, subject, 1, large, entries, **more)

    resnet = Network(contests.RESNET, 1)
    races = [
        race("operator", layer.title, contests.operator(layer), layout=layer.layout)
        for layer in (SMALL, SMALL.stored(FIRST))
    ]
    races.append(race("epilogue", SMALL.title, contests.epilogue(SMALL), layout=LAST))
    races.append(race("network", resnet.title, contests.network(resnet)))
    mnist = Network("mnist_group_norm", 64)
    races.append(race("network", mnist.title, contests.network(mnist)))
    name, points = next(iter(SERIES.items()))
    races += [race(name, layer.title, contests.series(layer), x=x) for x, layer in points]
    twice = [dataclasses.replace(race, threads=2) for race in races]
    shares = tuple(Share("style_transfer, batch 1", "optimized", count, 0.08) for count in (1, 2))
    pace = {"operators": {"rounds": 3, "seconds": 0.001}}
    peaks = {"1": 1e11, "2": 2e11}
    return Report(environment.describe(), pace, 1.5, (*races, *twice), peaks, shares)


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    report, file = _report(), tmp_path / "results.json"
    results.write(report, file)
    assert results.read(file) == report
    assert os.listdir(tmp_path) == ["results.json"]


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 1}', '{"schema": 0}'])
def test_what_is_no_result_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "results.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"no results of tools\.bench"):
        results.read(file)


def test_ratios_are_taken_within_rounds() -> None:
    entries = {
        "a": Entry((2.0, 20.0, 6.0)),
        "b": Entry((1.0, 10.0, 2.0)),
        "c": Entry((), None, "x"),
    }
    race = Race("operator", "", 1, 0, entries)
    assert race.ratio("a", "b") == results.Ratio(2.0, 2.0, 2.5)
    assert race.ratio("a", "c") is None
    assert race.fastest(["a", "b", "c"]) == "b"


def test_everything_met() -> None:
    found = targets.all_of(_report())
    assert {target.met for target in found} == {True}
    assert len(found) == 2 * (6 + 1 + 8 + 1 + 1)


@pytest.mark.parametrize(
    ("label", "milliseconds", "said"),
    [
        (contests.TORCH[LAST], 0.9, "no slower than PyTorch"),
        (contests.TORCH[FIRST], 1.3, "1.4 times as fast as PyTorch"),
        (COPY, 0.6, "at most 1.6 times a copy"),
        (contests.PLAIN, 9.0, "10 times as fast as plain"),
        (contests.BFLOAT16, 1.1, "bfloat16 no slower"),
        ("Gelu", 1.2, "each epilogue below 10 %"),
        (contests.BATCH_NORM[1], 0.8, "optimized at most 1.20 times batch norm"),
        (contests.OPENVINO, 1.2, "1.3 times as fast as OpenVINO"),
    ],
)
def test_what_is_not_met_is_named(label: str, milliseconds: float, said: str) -> None:
    missed = [target for target in targets.all_of(_report({label: milliseconds})) if not target.met]
    assert any(said in target.asked for target in missed)
    assert all(target.met is False for target in missed)


def test_what_batch_norm_would_reach_is_told() -> None:
    found = targets.all_of(_report(dict.fromkeys(contests.BATCH_NORM, 0.5)))
    told = {t.asked: t.measured for t in found if "as fast as plain tf2onnx" in t.asked}
    (mnist,) = (told[asked] for asked in told if "mnist" in asked and "1 thread:" in asked)
    assert mnist.startswith("12.00 (")
    assert "; with batch norm 24.00 (" in mnist


def test_small_tensors_are_not_held_to_a_copy() -> None:
    found = [t for t in targets.all_of(_report({COPY: 0.1}, large=2**20)) if "a copy" in t.asked]
    assert {target.met for target in found} == {None}


def test_missing_contestant_is_not_measured() -> None:
    report = _report()
    races = tuple(
        dataclasses.replace(
            race,
            entries={
                label: Entry((), None, "cannot: not installed: torch") if "PyT" in label else entry
                for label, entry in race.entries.items()
            },
        )
        for race in report.races
    )
    without = dataclasses.replace(report, races=races)
    found = {target.asked: target.met for target in targets.all_of(without)}
    assert {met for asked, met in found.items() if "PyTorch" in asked} == {None}
    assert {met for asked, met in found.items() if "PyTorch" not in asked} == {True}
    (table,) = (table for table in tables.all_of(without) if table.title == "Not timed")
    assert "cannot: not installed: torch" in table.rows[0]


def test_page_and_tables(tmp_path: Path) -> None:
    report = _report({"Gelu": 1.2})
    found = tables.all_of(report)
    page.write(report, found, tmp_path / "index.html", tmp_path / "tables.md")
    text = (tmp_path / "index.html").read_text()
    assert text.count("<svg") == len(plots.all_of(report)) == 5
    assert '<span class="badge fail">NOT MET</span>' in text
    assert "http" not in text.replace("http://www.w3.org", "")
    lines = (tmp_path / "tables.md").read_text().splitlines()
    assert "| GN 2×4×4×8 g4 | channels first | 2.10 | 0.8 | 1 | 1.25 (1.25–1.25) |" in " ".join(
        lines
    )
    for table in found:
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert tables.terminal(table).row_count == len(table.rows)


def test_command_shows_a_file(tmp_path: Path) -> None:
    results.write(_report(), tmp_path / "given.json")
    arguments = ["--from", str(tmp_path / "given.json"), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(command.app, arguments)
    assert result.exit_code == 0, result.output
    assert "Asked and measured" in result.stdout
    assert sorted(os.listdir(tmp_path / "out")) == ["index.html", "tables.md"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["kernels"], "no kind kernels; there are operators, epilogues, series, networks"),
        (["--threads", "4096"], "4096 threads, and "),
        (["--from", "nowhere.json"], "nowhere.json: no results of tools.bench"),
    ],
)
def test_bad_usage(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(command.app, arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_json_is_plain(tmp_path: Path) -> None:
    results.write(_report(), tmp_path / "results.json")
    content = json.loads((tmp_path / "results.json").read_text())
    assert set(content) == {"schema", *(field.name for field in dataclasses.fields(Report))}
