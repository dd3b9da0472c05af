"""Right models pass, wrong ones fail, and the report says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
pytest.importorskip("onnxruntime")

import onnxnorm  # noqa: E402
from onnxnorm import RuntimeLibraryError, VerificationError  # noqa: E402
from onnxnorm.parity import Criterion  # noqa: E402
from tests.parity.networks import NORMS, classifier, deep, faults, randomized  # noqa: E402

L = tf.keras.layers
FAULTS = [
    (norm, fault)
    for norm in NORMS
    for fault in ("epsilon", "scale", "bias", "variance", *(["groups"] if norm == "group" else []))
]


@pytest.fixture(scope="module")
def networks() -> dict[str, tuple[Any, Any]]:
    """Each classifier with its converted form."""
    models = {norm: classifier(norm) for norm in NORMS}
    return {norm: (model, onnxnorm.convert(model).model) for norm, model in models.items()}


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ONNXNORM_LIBRARY", str(tmp_path / "absent"))


@pytest.mark.parametrize("norm", NORMS)
def test_right_models_pass(norm: str, networks: Any) -> None:
    model, converted = networks[norm]
    report = onnxnorm.verify(model, converted)
    assert report, report.summary()
    assert report.outputs[0].argmax_agreement is not None


@pytest.mark.parametrize("norm", NORMS)
def test_the_native_form_passes(norm: str, networks: Any) -> None:
    model, _ = networks[norm]
    report = onnxnorm.verify(model, onnxnorm.convert(model, lowering="native").model)
    assert report, report.summary()


@pytest.mark.usefixtures("without_library")
def test_fifty_layers_of_reassociation_pass_and_a_fault_in_one_does_not() -> None:
    model = deep("group", depth=50)
    converted = onnxnorm.convert(model).model
    report = onnxnorm.verify(model, converted, samples=4)
    assert report, report.summary()
    first = next(node for node in converted.graph.node if node.domain == "onnxnorm")
    next(a for a in first.attribute if a.name == "epsilon").f = 1e-5
    assert not onnxnorm.verify(model, converted, samples=4)


# The function bodies run, since one of the faults is planted there.
@pytest.mark.usefixtures("without_library")
@pytest.mark.parametrize(("norm", "fault"), FAULTS)
def test_planted_faults_are_caught(norm: str, fault: str, networks: Any) -> None:
    model, converted = networks[norm]
    report = onnxnorm.verify(model, faults(converted)[fault])
    (output,) = report.outputs
    assert not report, report.summary()
    assert output.onnxruntime.max_ulp > 10 * output.allowed_max_ulp
    assert "more than the" in str(report)


def test_the_library_is_used_where_it_is(networks: Any) -> None:
    try:
        onnxnorm.library_path()
    except RuntimeLibraryError:
        pytest.skip("the native library is not built")
    report = onnxnorm.verify(*networks["layer"])
    assert report.native_library
    assert report.notes == ()


@pytest.mark.usefixtures("without_library")
def test_the_function_bodies_stand_in_for_the_library(networks: Any) -> None:
    report = onnxnorm.verify(*networks["layer"])
    assert report
    assert not report.native_library
    assert "function body" in report.notes[0]


def test_json(networks: Any, tmp_path: Path) -> None:
    model, converted = networks["layer"]
    path = tmp_path / "net.onnx"
    path.write_bytes(converted.SerializeToString())
    report = onnxnorm.verify(model, path, samples=3, seed=9, criterion=Criterion(floor_ulp=20))
    content = json.loads(report.to_json())
    assert list(content) == [
        "passed",
        "model",
        "onnx_file",
        "native_library",
        "precision",
        "seed",
        "criterion",
        "inputs",
        "sizes",
        "outputs",
        "notes",
        "versions",
    ]
    assert content["passed"] is True
    assert content["onnx_file"] == "net.onnx"
    assert content["seed"] == 9
    assert content["precision"] == "float32"
    assert content["inputs"] == [{"name": "image", "dtype": "float32", "shape": [3, 10, 10, 3]}]
    assert (content["criterion"]["multiple"], content["criterion"]["floor_ulp"]) == (4.0, 20)
    assert set(content["versions"]) == {
        "onnxnorm",
        "onnx",
        "onnxruntime",
        "tensorflow",
        "keras",
        "numpy",
    }
    (output,) = content["outputs"]
    assert (output["dtype"], output["shape"], output["passed"]) == ("float32", [3, 5], True)
    numbers = {f"{f}_{kind}" for f in ("max", "mean") for kind in ("absolute", "relative", "ulp")}
    for party in ("keras", "onnxruntime", "difference"):
        assert set(output[party]) == {*numbers, "nonfinite_mismatches"}
    assert set(output["worst"]) == {"index", "oracle", "keras", "onnxruntime"}
    assert set(output["argmax_agreement"]) == {"oracle", "keras"}


def test_dictionaries_several_outputs_and_embeddings() -> None:
    image = tf.keras.Input((4, 4, 3), name="image")
    tokens = tf.keras.Input((5,), name="tokens", dtype="int32")
    seen = L.Flatten()(L.LayerNormalization()(image))
    read = L.LSTM(4)(L.LayerNormalization()(L.Embedding(9, 6)(tokens)))
    joined = L.Concatenate()([seen, read])
    model = tf.keras.Model(
        {"image": image, "tokens": tokens},
        {"score": L.Dense(2, name="score")(joined), "read": read},
    )
    converted = onnxnorm.convert(randomized(model)).model
    report = onnxnorm.verify(model, converted)
    assert report, report.summary()
    assert len(report.outputs) == 2
    assert {record.name: record.shape for record in report.inputs} == {
        "image": (16, 4, 4, 3),
        "tokens": (16, 5),
    }
    given = {"tokens": np.ones((2, 5), np.int32), "image": np.ones((2, 4, 4, 3), np.float32)}
    report = onnxnorm.verify(model, converted, inputs=given)
    assert report
    assert report.seed is None
    with pytest.raises(VerificationError, match=r"missing \['image'\]"):
        onnxnorm.verify(model, converted, inputs={"tokens": given["tokens"]})


class Subclassed(tf.keras.Model):  # type: ignore[misc]
    """Dense and normalization, in a call of the user's."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = L.Dense(6)
        self.norm = L.LayerNormalization()

    def call(self, x: Any) -> Any:
        return self.norm(self.dense(x))


def test_subclassed_models() -> None:
    model = Subclassed()
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    model(x)
    converted = onnxnorm.convert(model).model
    assert onnxnorm.verify(model, converted)
    assert onnxnorm.verify(model, converted, inputs=x)


def test_a_model_that_was_never_called_needs_inputs(networks: Any) -> None:
    _, converted = networks["layer"]
    with pytest.raises(VerificationError, match="pass inputs"):
        onnxnorm.verify(Subclassed(), converted)


def test_mixed_precision() -> None:
    x = image = tf.keras.Input((6, 6, 3))
    x = L.LayerNormalization(dtype="mixed_float16")(L.Conv2D(8, 3, dtype="mixed_float16")(x))
    x = L.Dense(4, dtype="mixed_float16")(L.Flatten(dtype="mixed_float16")(x))
    model = randomized(tf.keras.Model(image, [x, L.Softmax(dtype="float32")(x)]))
    report = onnxnorm.verify(model, onnxnorm.convert(model).model)
    assert report, report.summary()
    assert report.precision == "float16"
    assert [output.dtype for output in report.outputs] == ["float16", "float32"]


def test_a_model_of_another_shape(networks: Any) -> None:
    _, converted = networks["layer"]
    image = tf.keras.Input((10, 10, 3), name="image")
    other = tf.keras.Model(image, L.Dense(4)(L.Flatten()(image)))
    report = onnxnorm.verify(other, converted)
    assert not report
    assert "shape [16, 5], Keras [16, 4]" in str(report)


def test_a_file_of_another_model(networks: Any) -> None:
    _, converted = networks["layer"]
    a, b = tf.keras.Input((3,), name="a"), tf.keras.Input((3,), name="b")
    with pytest.raises(VerificationError, match=r"its inputs are \['image'\].*\['a', 'b'\]"):
        onnxnorm.verify(tf.keras.Model([a, b], L.Add()([a, b])), converted)


def test_from_files(networks: Any, tmp_path: Path) -> None:
    model, converted = networks["layer"]
    model.save(tmp_path / "net.keras")
    (tmp_path / "net.onnx").write_bytes(converted.SerializeToString())
    np.savez(tmp_path / "x.npz", image=np.ones((2, 10, 10, 3), np.float32))
    assert onnxnorm.verify(
        str(tmp_path / "net.keras"), tmp_path / "net.onnx", inputs=tmp_path / "x.npz"
    )
