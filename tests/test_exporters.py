"""Exporters of others inside `hooks`: one node for each layer, and afterwards all is as before."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

tf = pytest.importorskip("tensorflow")
import tf2onnx  # noqa: E402

import onnxnorm  # noqa: E402
from onnxnorm import ConversionError  # noqa: E402
from onnxnorm.graph.inspection import inspect  # noqa: E402
from tests.conversion.keras_cases import (  # noqa: E402
    Subclassed,
    between_convolutions,
    functional,
    randomized,
)
from tests.conversion.test_conversion import keras_outputs, norm_nodes, run  # noqa: E402

L = tf.keras.layers
X = np.random.default_rng(5).normal(size=(2, 8, 8, 2)).astype(np.float32)

keras_3 = pytest.mark.skipif(
    "format" not in signature(tf.keras.Model.export).parameters,
    reason="this Keras has no export to ONNX",
)


def norm() -> Any:
    return L.LayerNormalization(name="norm")


def sequential() -> Any:
    return tf.keras.Sequential([tf.keras.Input((8, 8, 2)), L.Conv2D(4, 3), norm(), L.ReLU()])


def subclassed() -> Any:
    model = Subclassed(norm())
    model(X)
    return model


def branching() -> Any:
    inputs = tf.keras.Input((8, 8, 2), name="image")
    shared = norm()
    return tf.keras.Model(inputs, {"once": shared(inputs), "twice": shared(shared(inputs))})


MODELS: dict[str, Callable[[], Any]] = {
    "functional": lambda: between_convolutions(norm()),
    "sequential": sequential,
    "subclassed": subclassed,
    "branching": branching,
}
CALLS = {"branching": 2}  # the first call is the same for both outputs


def assert_one_node_each(proto: onnx.ModelProto, model: Any, calls: int) -> None:
    onnx.checker.check_model(proto, full_check=True)
    assert len(norm_nodes(proto)) == calls
    assert [f.name for f in proto.functions] == ["LayerNormalization"]
    found = inspect(proto)
    assert [(layer.name, len(layer.nodes)) for layer in found.layers] == [("norm", calls)]
    assert found.problems == ()
    for library in (False, True):
        for y, wanted in zip(run(proto, [X], library), keras_outputs(model, [X]), strict=True):
            np.testing.assert_allclose(y, wanted, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_tf2onnx(name: str) -> None:
    model = randomized(MODELS[name]())
    given = [tf.TensorSpec((None, *X.shape[1:]), tf.float32)] if name == "subclassed" else None
    before = dict(vars(model))
    with onnxnorm.hooks(model) as kwargs:
        proto, _ = tf2onnx.convert.from_keras(model, given, opset=17, **kwargs)
    assert vars(model).keys() == before.keys()
    assert_one_node_each(proto, model, CALLS.get(name, 1))


@keras_3
@pytest.mark.parametrize("name", MODELS)
def test_keras_export(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, path = randomized(MODELS[name]()), tmp_path / "model.onnx"
    before = dict(vars(model))
    with onnxnorm.hooks(model):
        model.export(str(path), format="onnx", opset_version=20)
    assert vars(model).keys() == before.keys()
    assert capsys.readouterr().out == f"Saved artifact at '{path}'.\n"
    proto = onnx.load(path)
    assert {o.domain: o.version for o in proto.opset_import}[""] == 20
    assert_one_node_each(proto, model, CALLS.get(name, 1))


@keras_3
def test_keras_export_takes_its_signature(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import keras

    model, path = MODELS["functional"](), tmp_path / "model.onnx"
    with onnxnorm.hooks(model):
        given = [keras.layers.InputSpec("float32", (3, 8, 8, 2))]
        model.export(path, "onnx", verbose=False, input_signature=given)
    assert capsys.readouterr().out == ""
    (value,) = onnx.load(path).graph.input
    assert [d.dim_value for d in value.type.tensor_type.shape.dim] == [3, 8, 8, 2]


@keras_3
def test_keras_export_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    model = MODELS["functional"]()
    with (
        onnxnorm.hooks(model),
        pytest.raises(ConversionError, match=r"argument is_static; verbose, input_signature"),
    ):
        model.export(tmp_path / "model.onnx", format="onnx", is_static=True)
    assert not list(tmp_path.iterdir())


@keras_3
def test_other_formats_are_keras_own(tmp_path: Path) -> None:
    model = randomized(MODELS["functional"]())
    with onnxnorm.hooks(model):
        model.export(tmp_path / "saved", verbose=False)
        with pytest.raises(ValueError, match="format"):
            model.export(tmp_path / "other", format="no such format")
    saved = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(saved.serve(X), keras_outputs(model, [X])[0], atol=1e-5)


def test_the_model_is_as_before_when_the_block_fails_and_after_an_inner_block() -> None:
    model, other = MODELS["functional"](), MODELS["functional"]()
    everything = [model, *model.layers, other, *other.layers]
    before = [vars(holder).keys() for holder in everything]
    with onnxnorm.hooks(model):
        with pytest.raises(ConversionError), onnxnorm.hooks(model):
            raise ConversionError
        assert "call" in vars(model.get_layer("norm"))
        assert [vars(o).keys() for o in [other, *other.layers]] == before[len(model.layers) + 1 :]
    assert [vars(holder).keys() for holder in everything] == before


def test_conversions_of_other_threads_wait() -> None:
    model = randomized(functional((4,), norm()))
    with ThreadPoolExecutor(1) as pool:
        with onnxnorm.hooks(model) as kwargs:
            other = pool.submit(onnxnorm.convert, model)
            proto, _ = tf2onnx.convert.from_keras(model, opset=18, **kwargs)
            assert not other.done()
        assert len(norm_nodes(other.result(timeout=60).model)) == len(norm_nodes(proto)) == 1
    assert "call" not in vars(model.get_layer("norm"))
