"""What is drawn for an input is what the model can use."""

from __future__ import annotations

from typing import Any

import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from onnxnorm.parity import domains, subject  # noqa: E402

L = tf.keras.layers


class Known(L.Embedding):
    """A user's embedding."""


def test_each_input_has_values_of_its_own() -> None:
    shapes = {"few": "int32", "many": "int64", "float": "float32", "mask": "int32"}
    inputs = {name: tf.keras.Input((3,), dtype=dtype, name=name) for name, dtype in shapes.items()}
    inputs |= {"word": tf.keras.Input((), dtype="string", name="word")}
    inputs |= {"number": tf.keras.Input((), dtype="int64", name="number")}
    both = (
        Known(50, 2)(inputs["many"])
        + Known(50, 2)(inputs["few"])
        + L.Embedding(7, 2)(inputs["few"])
    )
    outputs = [
        both,
        L.Embedding(4, 2)(inputs["float"]),
        L.Rescaling(2.0)(inputs["mask"]),
        L.Embedding(3, 2)(L.StringLookup(vocabulary=["x", "y"])(inputs["word"])),
        L.Embedding(3, 2)(L.IntegerLookup(vocabulary=[30, 40])(inputs["number"])),
    ]
    found = {spec.name: spec for spec in subject.trace(tf.keras.Model(inputs, outputs)).inputs}
    limits = {name: spec.limit for name, spec in found.items()}
    assert limits == {
        "few": 7,
        "many": 50,
        "float": 4,
        "mask": None,
        "word": None,
        "number": None,
    }
    assert set(found["word"].choices) == {"x", "y", domains.UNKNOWN_WORD}
    assert set(found["number"].choices) == {30, 40, domains.UNKNOWN_NUMBER}
    assert not any(found[name].choices for name in shapes)


def test_a_lookup_without_a_place_for_unknown_words_gets_known_ones() -> None:
    layers = [L.StringLookup(vocabulary=["x"], num_oov_indices=0)]
    assert domains.vocabulary(layers, text=True) == ("x",)
    assert domains.vocabulary(layers, text=False) == ()


def test_the_axis_that_is_indexed_counts() -> None:
    def rows(indices: Any) -> Any:
        return tf.gather(tf.zeros([2, 9, 3]), indices, axis=1)

    def itself(table: Any) -> Any:
        return tf.gather(table, [0], axis=1)

    for call, dtype, limit in ((rows, tf.int32, 9), (itself, tf.float32, None)):
        signature = [tf.TensorSpec([None, 3], dtype)]
        function = tf.function(call, input_signature=signature).get_concrete_function()
        assert domains.index_limit(function.inputs[0], function) == limit


def test_words_are_verified_without_inputs_of_the_caller() -> None:
    word = tf.keras.Input((), dtype="string", name="word")
    x = L.Embedding(4, 6)(L.StringLookup(vocabulary=["a", "b", "c"])(word))
    model = tf.keras.Model(word, L.LayerNormalization()(x))
    report = onnxnorm.verify(model, onnxnorm.convert(model).model)
    assert report, report.summary()
