"""What models take and return, as users write it: right against Keras, or refused by name."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from onnxnorm import ConversionError, MissingDependencyError, capture  # noqa: E402
from onnxnorm.graph.inspection import inspect  # noqa: E402
from tests.conversion.keras_cases import KERAS_2, functional, randomized  # noqa: E402

L = tf.keras.layers
RNG = np.random.default_rng(2)
F, G, H = (RNG.normal(size=(3, 4)).astype(np.float32) for _ in range(3))
FLOATS = tf.TensorSpec((None, 4), tf.float32)
TOKENS = np.array([[1, 2, 0, 0], [3, 1, 4, 0], [5, 4, 3, 2]], np.int32)


def norm(**arguments: Any) -> Any:
    return L.LayerNormalization(**arguments)


def inputs(names: str, **arguments: Any) -> list[Any]:
    return [tf.keras.Input((4,), name=name, **arguments) for name in names]


def fresh(call: Callable[..., Any] = lambda self, x: self.norm(x)) -> Any:
    """A subclassed model with a norm and this call."""
    model = type("Fresh", (tf.keras.Model,), {"call": call})()
    model.norm = norm()
    return model


def called(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The same, called once."""
    model = fresh(call)
    model(*args, **kwargs)
    return model


@dataclass(frozen=True)
class Model:
    """A model, what it is called with, and the names in the ONNX file."""

    build: Callable[[], Any]
    args: tuple[Any, ...]
    inputs: str
    outputs: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    given: Any = None


def nested_lists() -> Any:
    a, b, c = inputs("abc")
    first, second = norm(name="first"), norm(name="second")
    return tf.keras.Model([a, [b, c]], [first(a), [second(b), c]])


def dictionaries() -> Any:
    q, p = inputs("qp")
    return tf.keras.Model({"q": q, "p": p}, {"s": norm()(q), "d": {"x": norm()(p), "y": q}})


def one_of(**arguments: Any) -> Callable[[], Any]:
    """A functional model of one input."""

    def build() -> Any:
        (a,) = inputs("a", **arguments)
        return tf.keras.Model(a, norm(name="n")(L.Embedding(7, 3)(a)))

    return build


def two_calls() -> Any:
    (a,) = inputs("a")
    shared = norm(name="shared")
    return tf.keras.Model(a, [a, L.Add(name="sum")([shared(a), shared(2.0 * a)]), a])


def without_input_layer() -> Any:
    model = tf.keras.Sequential([L.Dense(3), norm(name="n")])
    model(F[:1])
    return model


def same_names() -> Any:
    def inner() -> Any:
        (a,) = inputs("a")
        return tf.keras.Model(a, L.Dense(4, name="d")(norm(name="n")(a)))

    (a,) = inputs("a")
    return tf.keras.Model(a, norm(name="n")(inner()(inner()(a))))


def masked() -> Any:
    (a,) = inputs("a", dtype="int32")
    x = norm()(L.Embedding(7, 3, mask_zero=True)(a))
    return tf.keras.Model(a, L.LSTM(2, name="l")(x))


MODELS = {
    "nested lists": Model(nested_lists, ([F, [G, H]],), "a b c", "first second c_1"),
    "dictionaries": Model(dictionaries, ({"q": F, "p": G},), "p q", "d/x d/y s"),
    "tuple in another order": Model(
        lambda: (lambda a, b: tf.keras.Model((b, a), norm(name="n")(a - b)))(*inputs("ab")),
        ((F, G),),
        "b a",
        "n",
    ),
    "subclassed dictionaries": Model(
        lambda: called(
            lambda self, x: {"z": self.norm(x["b"]), "c": x["a"]}, {"b": F, "a": G[:, :2]}
        ),
        ({"b": F, "a": G[:, :2]},),
        "a b",
        "c z",
    ),
    "subclassed list": Model(
        lambda: called(lambda self, x: self.norm(x[0]) + x[1], [F, G]),
        ([F, G],),
        "input_1 input_2",
        "output_1",
    ),
    "subclassed, None among its outputs": Model(
        lambda: called(lambda self, x: (None, self.norm(x)), F), (F,), "input_1", "output_1"
    ),
    "arguments by name": Model(
        lambda: called(lambda self, p, q: self.norm(p) - q, F, q=G),
        (F,),
        "p q",
        "output_1",
        {"q": G},
        None if KERAS_2 else {"p": FLOATS, "q": FLOATS},
    ),
    "arguments in order": Model(
        lambda: called(lambda self, p, q, training=None: self.norm(p) - q, F, G),
        (F, G),
        "p q",
        "output_1",
        {},
        None if KERAS_2 else (FLOATS, FLOATS),
    ),
    "one input twice, and as outputs": Model(
        two_calls, (F,), "a", "a_1 sum a_1_1" if KERAS_2 else "a_1 sum a_2"
    ),
    "nothing but the input": Model(
        lambda: (lambda a: tf.keras.Model(a, a))(*inputs("a")), (F,), "a", "a_1"
    ),
    "int32": Model(one_of(dtype="int32"), (TOKENS,), "a", "n"),
    "int64": Model(one_of(dtype="int64"), (TOKENS.astype(np.int64),), "a", "n"),
    "uint8": Model(
        lambda: (lambda a: tf.keras.Model(a, norm(name="n")(L.Rescaling(0.1)(a))))(
            *inputs("a", dtype="uint8")
        ),
        (TOKENS.astype(np.uint8),),
        "a",
        "n",
    ),
    "bool": Model(
        lambda: (lambda a: tf.keras.Model(a, norm(name="n")(L.Rescaling(0.1)(a))))(
            *inputs("a", dtype="bool")
        ),
        (TOKENS > 1,),
        "a",
        "n",
    ),
    "fixed batch": Model(one_of(batch_size=3), (TOKENS.astype(np.float32),), "a", "n"),
    "Sequential without an Input": Model(without_input_layer, (F,), "", ""),
    "three layers of one name": Model(same_names, (F,), "a", "n"),
    "mask on the way to a recurrent layer": Model(masked, (TOKENS,), "a", "l"),
    "not trainable": Model(
        lambda: _frozen(functional((4,), L.BatchNormalization(), norm(name="n"))), (F,), "", "n"
    ),
    "never called, one argument": Model(
        lambda: type("Fresh", (tf.keras.Sequential,), {})([L.Dense(3), norm()]),
        (F,),
        "input_1",
        "",
        {},
        [FLOATS],
    ),
    "never called, two arguments": Model(
        lambda: fresh(lambda self, p, q: self.norm(p) - q),
        (F, G),
        "p q",
        "output_1",
        {},
        [FLOATS, FLOATS],
    ),
}


def _frozen(model: Any) -> Any:
    model.trainable = False
    return model


@pytest.mark.parametrize("name", MODELS)
def test_as_keras(name: str) -> None:
    case = MODELS[name]
    model = case.build()
    if case.given is None:
        model = randomized(model)
    result = onnxnorm.convert(model, input_signature=case.given)
    session = onnxruntime.InferenceSession(
        result.model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    outputs = [value.name for value in session.get_outputs()]
    assert " ".join(names) == case.inputs or not case.inputs
    assert " ".join(outputs) == case.outputs or not case.outputs
    wanted = model(*case.args, **case.kwargs)
    arrays = tf.nest.flatten((case.args, case.kwargs))
    results = session.run(None, dict(zip(names, arrays, strict=True)))
    expected = [y for y in tf.nest.flatten(wanted) if y is not None]
    for y, keras in zip(results, expected, strict=True):
        np.testing.assert_allclose(y, np.asarray(keras), atol=1e-5)
    assert inspect(result.model).problems == ()


def built(
    *shapes: Any, build: Callable[..., Any] | None = None, call: Any = None, **named: Any
) -> Any:
    """A subclassed model that was built by hand, and never called."""
    members = {"call": call or (lambda self, x: self.norm(self.dense(x)))}
    if build:
        members["build"] = build
    model = type("Built", (tf.keras.Model,), members)()
    model.dense, model.norm = L.Dense(4), norm()
    model.build(*shapes, **named)
    return model


def builds_layers(self: Any, input_shape: Any) -> None:
    self.dense.build(input_shape)
    self.norm.build((*input_shape[:-1], 4))


def passes_on(self: Any, input_shape: Any) -> None:
    tf.keras.Model.build(self, input_shape)


BUILT: dict[str, tuple[Callable[[], Any], Any]] = {
    "tuple": (lambda: built((None, 4)), [F]),
    "list": (lambda: built([None, 4]), [F]),
    "by name": (lambda: built(input_shape=(None, 4)), [F]),
    "batch size": (lambda: built((5, 4)), [F]),
    "numpy sizes": (lambda: built((None, np.int64(4))), [F]),
    "TensorShape": (lambda: built(tf.TensorShape((None, 4))), [F]),
    "unknown sizes": (lambda: built((None, None, 4)), [F[:, None]]),
    "dictionary": (
        lambda: built(
            {"a": (None, 4), "b": (None, 4)},
            call=lambda self, x: self.norm(self.dense(x["a"])) + x["b"],
        ),
        [F, G],
    ),
    "list of shapes": (
        lambda: built(
            [(None, 4), (None, 4)], call=lambda self, x: self.norm(self.dense(x[0])) + x[1]
        ),
        [F, G],
    ),
    "own build that passes it on": (lambda: built((None, 4), build=passes_on), [F]),
    "from a config": (lambda: _from_config({"input_shape": [None, 4]}), [F]),
}
if not KERAS_2:  # which keeps no shapes of a build that the model overrides
    BUILT |= {
        "own build": (lambda: built((None, 4), build=builds_layers), [F]),
        "own build, other name": (
            lambda: built((None, 4), build=lambda self, s: builds_layers(self, s)),
            [F],
        ),
        "own build, two arguments": (
            lambda: built(
                (None, 4),
                value_shape=(None, 4),
                build=lambda self, query_shape, value_shape: builds_layers(self, query_shape),
                call=lambda self, query, value: self.norm(self.dense(query)) - value,
            ),
            [F, G],
        ),
        "own build, with no shape among its arguments": (
            lambda: built(
                (None, 4),
                None,
                "float32",
                build=lambda self, input_shape, other, kind: builds_layers(self, input_shape),
            ),
            [F],
        ),
    }


def _from_config(config: Any) -> Any:
    model = type("Built", (tf.keras.Model,), {"call": lambda self, x: self.norm(x)})()
    model.norm = norm()
    model.build_from_config(config)
    return model


@pytest.mark.filterwarnings("ignore:.*build:UserWarning")
@pytest.mark.parametrize("name", BUILT)
def test_built_by_hand(name: str) -> None:
    build, arrays = BUILT[name]
    model = build()
    converted = onnxnorm.convert(model)
    assert [layer.lowering for layer in converted.layers] == ["custom"]
    report = onnxnorm.verify(model, converted.model, inputs=list(arrays))
    assert report.passed, str(report)


SHAPES = {"a": [3, 4], "b": [3, 2]}


def wide_and_narrow() -> Any:
    a, b = tf.keras.Input((4,), name="a"), tf.keras.Input((2,), name="b")
    return tf.keras.Model([b, a], norm()(a[:, :2] + b))


@pytest.mark.parametrize(
    "given",
    [
        {"a": F, "b": F[:, :2]},
        [F[:, :2], F],
        (tf.TensorSpec((3, 2), "float32"), tf.TensorSpec((3, 4), "float32")),
        [[tf.constant(F[:, :2]), tf.constant(F)]],
        [{"b": tf.TensorSpec((3, 2)), "a": tf.TensorSpec((3, 4))}],
    ],
    ids=["by name", "arrays", "specs", "tensors, nested", "by name, nested"],
)
def test_input_signature(given: Any) -> None:
    model = onnxnorm.convert(wide_and_narrow(), input_signature=given).model
    assert {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in model.graph.input
    } == SHAPES


REFUSED: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "never called": (fresh, None, "'fresh.*never called.*call it once, or pass input_signature"),
    "built without shapes": (
        lambda: built(build=lambda self: None),
        None,
        "'built.*never called on data, nor built.*: call it once, or pass input_signature$",
    ),
    "too few": (wide_and_narrow, [FLOATS], "takes 2 inputs, input_signature has 1"),
    "other names": (wide_and_narrow, {"a": FLOATS, "c": FLOATS}, "takes b, a; .* has a, c"),
    "no specs": (wide_and_narrow, [[3, 2], [3, 4]], "has 3 where a tf.TensorSpec"),
    "unknown argument": (
        lambda: fresh(lambda self, p, q: p),
        {"p": FLOATS, "r": FLOATS},
        "takes p, q; input_signature has p, r",
    ),
    "a layer": (norm, None, "LayerNormalization is no Keras model"),
    "something else": (object, None, "builtins.object is no Keras model"),
    "sparse": (
        lambda: functional_of(sparse=True),
        None,
        "input '.*' is no dense tensor .Sparse",
    ),
    "name that TensorFlow has no scope for": (
        lambda: functional((4,), norm(name="with space")),
        None,
        "'with space' is not a valid scope name",
    ),
}
if KERAS_2:
    REFUSED["ragged"] = (
        lambda: functional_of(ragged=True),
        None,
        "input 'a' is no dense tensor .Ragged",
    )
    del REFUSED["name that TensorFlow has no scope for"]  # Keras 2 refuses it itself
else:
    REFUSED["arguments that Keras forgets"] = (
        lambda: called(lambda self, p, q: self.norm(p) + q, F, G),
        None,
        "does not remember its argument q; pass input_signature, a dictionary",
    )


def functional_of(**arguments: Any) -> Any:
    (a,) = inputs("a", **arguments)
    return tf.keras.Model(a, L.Dense(3)(a))


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    build, given, message = REFUSED[name]
    with pytest.raises(ConversionError, match=message):
        capture.trace(build(), given)


def test_weights_shared_between_models_that_convert_one_after_the_other() -> None:
    shared = norm(name="shared")
    models = [randomized(functional((4,), L.Dense(4), shared)) for _ in range(2)]
    for model in models:
        result = onnxnorm.convert(model)
        assert [layer.name for layer in result.layers] == ["shared"]
        session = onnxruntime.InferenceSession(
            result.model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        (y,) = session.run(None, {session.get_inputs()[0].name: F})
        np.testing.assert_allclose(y, np.asarray(model(F)), atol=1e-5)


def test_another_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if KERAS_2:
        pytest.skip("Keras 2 has TensorFlow only")
    import keras

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(MissingDependencyError, match=r"runs on 'jax'.*KERAS_BACKEND=tensorflow"):
        onnxnorm.convert(fresh())


def test_legacy_keras_that_is_not_installed() -> None:
    if KERAS_2 or importlib.util.find_spec("tf_keras"):
        pytest.skip("this TensorFlow has it")
    code = "import onnxnorm; onnxnorm.convert('.')"
    path = os.pathsep.join([str(Path(onnxnorm.__file__).parents[1]), *sys.path[1:]])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, "TF_USE_LEGACY_KERAS": "1"},
        capture_output=True,
        text=True,
    )
    assert "MissingDependencyError: TensorFlow's Keras cannot be imported" in done.stderr
