"""The pipeline on a small slice of the real data: all of it, resumed, outdated, interrupted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tools import mnist

tf = pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_addons")
pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from tests.tools.test_report import Page, assert_self_contained  # noqa: E402
from tools import pipeline, summary  # noqa: E402
from tools.steps import export, train, verify, workspace  # noqa: E402

pytestmark = pytest.mark.skipif(
    mnist.distribution_file() is None and not mnist.keras_cache_file().is_file(),
    reason="MNIST is not installed",
)

# typer's own class of it moved between its versions.
Result = Any

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("group_norm", "layer_norm")
SLICE = ("--epochs", "1", "--train-samples", "600", "--test-samples", "150")
ONE = ("--models", "group_norm")
IMAGES = 150


def run(*arguments: str) -> Result:
    return CliRunner().invoke(pipeline.app, arguments)


def error_line(result: Result) -> str:
    """The one line of a refused command."""
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("pipeline: error: ")
    return line


def ages(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """An output directory that `run` has filled, and what it said."""
    out = tmp_path_factory.mktemp("demo") / "out"
    names = ",".join(NAMES)
    return out, run("run", "--out", str(out), "--models", names, "--rounds", "2", *SLICE)


@pytest.fixture
def copy(finished: tuple[Path, Result], tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    out = tmp_path / "out"
    shutil.copytree(finished[0], out)
    return out


def test_run_does_all_steps(finished: tuple[Path, Result]) -> None:
    out, result = finished
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    assert all(name in result.stdout for name in NAMES)
    found = json.loads((out / "summary.json").read_text())
    assert found["passed"]
    assert [(row["model"], row["form"]) for row in found["rows"]] == [
        (name, form) for name in NAMES for form in ("native", "custom")
    ]
    for row in found["rows"]:
        assert row["top1_agreement"] == 1
        assert row["largest_error"] < 1e-5
        assert row["accuracy_tensorflow"] == row["accuracy_onnxruntime"]
        assert row["nodes_after"] < row["nodes_before"]
        assert set(row["latency"]) == {"tensorflow", "plain", "ours"}
        assert all(timing["median"] > 0 for timing in row["latency"].values())
        if row["form"] == "custom":
            assert row["norm_nodes_after"] == 1
    assert not list(out.rglob(".*"))


def test_predictions_are_of_the_saved_models(finished: tuple[Path, Result]) -> None:
    folder = finished[0] / "group_norm"
    images = mnist.load().test_images[:IMAGES]
    expected = train.predictions(folder)
    assert expected.shape == (IMAGES, 10)
    for file in (train.KERAS_FILE, train.HDF5_FILE):
        model = tf.keras.models.load_model(folder / file)
        found = model.predict(images, verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for found in verify.predictions(folder).values():
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_report_page_is_self_contained(finished: tuple[Path, Result]) -> None:
    text = (finished[0] / "report.html").read_text()
    assert_self_contained(text)
    page = Page(text)
    assert page.tags.count("svg") == 3
    assert page.tags.count("img") > 5
    for word in (*NAMES, ">passed<", "onnxruntime", "tfa.layers.GroupNormalization"):
        assert word in text


def test_second_run_makes_nothing_again(
    finished: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = finished

    def fail(*arguments: Any) -> None:
        raise AssertionError("made again")

    for step in (train, export, verify):
        monkeypatch.setattr(step, step.STEP, fail)
    before = {p: age for p, age in ages(out).items() if p.parent != out}
    result = run("run", "--out", str(out), "--models", NAMES[0], "--rounds", "2", "--json", *SLICE)
    assert result.exit_code == 0, result.output
    assert {p: age for p, age in ages(out).items() if p.parent != out} == before
    assert len(json.loads(result.stdout)["rows"]) == 2
    assert result.stderr.count("up to date") == 3


def test_other_settings_are_trained_again_and_outdate_what_follows(copy: Path) -> None:
    out = ("--out", str(copy), *ONE)
    before = ages(copy)
    result = run("train", *out, *SLICE, "--seed", "1", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["group_norm"]["train_images"] == 600
    changed = {path for path, age in ages(copy).items() if before.get(path) != age}
    assert {path.parent.name for path in changed} == {"group_norm"}
    assert {path.name for path in changed} == {
        "train.json",
        train.KERAS_FILE,
        train.HDF5_FILE,
        train.HISTORY_FILE,
        train.PREDICTIONS_FILE,
    }
    assert "export" in error_line(run("verify", *out))
    assert run("export", *out).exit_code == 0
    assert run("verify", *out, "--rounds", "0").exit_code == 0
    row = json.loads((copy / "summary.json").read_text())["rows"][0]
    assert row["latency"] == {}
    assert row["times_faster"] is None


def test_same_seed_trains_the_same_model(copy: Path) -> None:
    before = train.predictions(copy / "group_norm")
    result = run("train", "--out", str(copy), *ONE, *SLICE, "--force")
    assert result.exit_code == 0, result.output
    assert "up to date" not in result.stderr
    assert np.array_equal(train.predictions(copy / "group_norm"), before)


def test_lost_file_is_made_again(copy: Path) -> None:
    lost = copy / "group_norm" / export.CUSTOM.network_file
    lost.unlink()
    assert "'export' for group_norm" in error_line(run("verify", "--out", str(copy), *ONE))
    assert run("export", "--out", str(copy), *ONE).exit_code == 0
    assert lost.is_file()


def test_not_in_parity_is_exit_status_1_and_said(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "LARGEST_ERROR_ALLOWED", 0.0)
    result = run("verify", "--out", str(copy), "--models", "layer_norm", "--rounds", "2")
    assert result.exit_code == 1, result.output
    assert "layer_norm (custom): a probability differs" in " ".join(result.stderr.split())
    assert not json.loads((copy / "summary.json").read_text())["passed"]
    assert ">failed<" in (copy / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("export",), "'python -m tools.pipeline train"),
        (("verify",), "'python -m tools.pipeline train"),
        (("train", "--models", "group_norm,nonsense"), "'nonsense'; there are group_norm"),
        (("run", "--models", ""), "''; there are"),
    ],
)
def test_missing_step_or_unknown_model_is_one_line(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    assert words in error_line(run(*arguments, "--out", str(tmp_path / "none")))
    assert not (tmp_path / "none").exists()


def test_output_path_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    assert "not a directory" in error_line(run("train", "--out", str(file), *SLICE))
    assert file.read_text() == "kept"


def test_missing_data_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(mnist, "DISTRIBUTION", "no-such-distribution-of-mnist")
    result = run("train", "--out", str(tmp_path / "out"), *ONE, *SLICE)
    assert result.exit_code == 2
    assert "pip install" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("options", [("--epochs", "0"), ("--train-samples", "-1"), ("--no",)])
def test_bad_options_are_usage_errors(options: tuple[str, ...]) -> None:
    assert run("train", *options).exit_code == 2


@pytest.mark.parametrize("command", ["train", "export", "verify", "run"])
def test_every_command_has_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Example: python -m tools.pipeline {command}" in result.output


@pytest.mark.parametrize("start", [("tools/pipeline.py",), ("-m", "tools.pipeline")])
def test_both_ways_to_start_it(start: tuple[str, ...]) -> None:
    result = subprocess.run(
        [sys.executable, *start, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "verify" in result.stdout


def test_stamps_tell_what_they_were_made_from(finished: tuple[Path, Result]) -> None:
    stamp = workspace.read_stamp(finished[0] / "group_norm", "train")
    assert stamp is not None
    assert stamp.key["settings"]["train_samples"] == 600
    assert stamp.key["versions"]["tensorflow"] == tf.__version__
