"""Every layer that Keras has passes safe mode, but those that run code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

from onnxnorm.frameworks import allowed, allowed_graph  # noqa: E402
from onnxnorm.frameworks.files import load  # noqa: E402
from tests.conversion.builtin_layers import table  # noqa: E402
from tests.conversion.keras_cases import KERAS_2  # noqa: E402
from tests.conversion.layer_rows import Row  # noqa: E402

L = tf.keras.layers
# Activations are rows with a Lambda layer around them.
ROWS = [
    row
    for row in table("Keras 2" if KERAS_2 else "Keras 3")
    if ".activations." not in f".{row.layer.name}"
]
CODE = ("Lambda", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper")


def configurations(model: Any) -> list[Any]:
    """As ``.h5``, ``.keras`` and SavedModel files hold them."""
    found = [json.loads(model.to_json())]
    found.append(json.loads(json.dumps(keras.saving.serialize_keras_object(model))))
    if KERAS_2:
        for layer in (model, *model.layers):
            found.append(json.loads(layer._trackable_saved_model_saver.tracking_metadata))
    return found


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_built_in_layer_is_allowed(row: Row) -> None:
    model = row.model()
    for config in configurations(model):
        code = any(f'"class_name": "{name}"' in json.dumps(config) for name in CODE)
        assert bool(list(allowed.refusals(config))) == code, list(allowed.refusals(config))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_operations_of_a_built_in_layer_are_allowed(row: Row) -> None:
    model = row.model()
    specs = [tf.TensorSpec(x.shape, x.dtype) for x in model.inputs]
    known = allowed_graph.operations()
    for training in (False, True):
        function = tf.function(lambda *x, training=training: model(list(x), training=training))
        try:
            graph = function.get_concrete_function(*specs).graph.as_graph_def()
        except (TypeError, ValueError):  # not trained, or on other arguments
            continue
        nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
        functions = {f.signature.name for f in graph.library.function}
        assert {node.op for node in nodes} - known - functions == set()


def test_an_archive_may_have_more_weights_than_any_file(tmp_path: Path) -> None:
    """Its limit follows from its size: 18 MB of weights are more than the 16 MiB of slack."""
    x = tf.keras.Input((2100,))
    tf.keras.Model(x, L.Dense(2100)(x)).save(tmp_path / "model.keras")
    assert load(tmp_path / "model.keras").count_params() == 2100 * 2101


@pytest.mark.skipif(not KERAS_2, reason="Keras 3 has no SavedModel")
def test_layers_that_were_adapted_load_from_a_saved_model(tmp_path: Path) -> None:
    x = tf.keras.Input((1,), dtype=tf.string)
    lookup = L.StringLookup()
    lookup.adapt(["a", "a", "b"])
    tf.keras.Model(x, lookup(x)).save(tmp_path / "model")
    model = load(tmp_path / "model")
    assert model(tf.constant([["b"], ["z"]])).numpy().tolist() == [[2], [0]]
