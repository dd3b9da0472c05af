"""Every built-in layer and activation of this Keras is right against it, or refused by name."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from tests.conversion.builtin_layers import PAGE, WITHOUT_ROW, page, table  # noqa: E402
from tests.conversion.keras_cases import KERAS_2, functional, randomized  # noqa: E402
from tests.conversion.layer_rows import Row  # noqa: E402

L = tf.keras.layers
WORLD = "Keras 2" if KERAS_2 else "Keras 3"
ROWS = table(WORLD)

# Batches with the varying sizes and the scale of normal inputs: the model is traced for none of
# them, and the activations' bends and flat ends all lie between them.
BATCHES = ((3, 8, 1.0), (1, 10, 5.0), (2, 13, 0.01))
# What ONNX Runtime may be off, in units in the last place of the largest value of an output: sums
# of some hundred products, added in another order. Where a unit in the last place of the inputs
# moves Keras' own output by more than one of its own, as in a recurrence that does not settle, the
# unit is that movement. Below the floor are differences of like numbers,
# such as gates of a recurrent layer, which are rounded to half a unit in the last place of 1.
ULP = 48
FLOOR = 6e-8


def ids(row: Row) -> str:
    return str(row).replace("activations.", "")


@pytest.mark.parametrize("row", [row for row in ROWS if not row.refused], ids=ids)
def test_computes_what_keras_computes(row: Row) -> None:
    model = randomized(row.model())
    session = onnxnorm.InferenceSession(onnxnorm.convert(model).model)
    rng = np.random.default_rng(3)
    for batch, size, scale in BATCHES:
        inputs = [given.draw(rng, batch, size, scale) for given in row.inputs]
        if WORLD in row.needs_onednn and os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0":
            with pytest.raises(tf.errors.OpError, match=r"CPU implementations|on the CPU"):
                outputs(model, inputs)
            (name,) = (value.name for value in session.get_inputs())
            assert all(np.isfinite(y).all() for y in session.run(None, {name: inputs[0]}))
            continue
        compare(model, session, inputs)


@pytest.mark.parametrize("row", [row for row in ROWS if row.refused], ids=ids)
def test_is_refused_by_name(row: Row) -> None:
    with pytest.raises(onnxnorm.ConversionError, match=re.escape(row.refused)) as caught:
        onnxnorm.convert(row.model())
    assert "'the_layer'" in str(caught.value)


@pytest.mark.parametrize(
    "layer",
    ["Dense", "AveragePooling2D", "GlobalAveragePooling2D", "Softmax", "ReLU", "Flatten"],
)
def test_a_batch_of_none(layer: str) -> None:
    row = next(row for row in ROWS if row.layer.name == layer and len(row.inputs) == 1)
    model = row.model()
    inputs = [row.inputs[0].draw(np.random.default_rng(3), 0, 8, 1)]
    compare(model, onnxnorm.InferenceSession(onnxnorm.convert(model).model), inputs)


def compare(model: Any, session: Any, inputs: Sequence[npt.NDArray[Any]]) -> None:
    wanted = outputs(model, inputs)
    names = [value.name for value in session.get_inputs()]
    found = session.run(None, dict(zip(names, inputs, strict=True)))
    for i, (y, expected) in enumerate(zip(found, wanted, strict=True)):
        assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
        if expected.dtype.kind != "f" or not expected.size:
            np.testing.assert_array_equal(y, expected)
            continue
        assert np.isfinite(expected).all()
        off = distance(y, expected)
        unit = float(np.finfo(y.dtype).eps * np.abs(expected).max())
        if off > ULP * unit + FLOOR:
            unit = max(unit, distance(outputs(model, [*map(nudged, inputs)])[i], expected))
        assert off <= ULP * unit + FLOOR


def outputs(model: Any, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    tensors = [tf.constant(given) for given in inputs]
    results = model(tensors if len(tensors) > 1 else tensors[0], training=False)
    return [*map(as_array, tf.nest.flatten(results))]


def distance(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())


def nudged(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Every number moved by a unit in its last place."""
    if values.dtype.kind != "f":
        return values
    towards = np.random.default_rng(5).choice((-np.inf, np.inf), values.shape)
    return np.nextafter(values, towards.astype(values.dtype))


def as_array(tensor: Any) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = tensor.numpy()
    if tensor.dtype == tf.string:
        return np.vectorize(bytes.decode, otypes=[object])(array)
    return array


def public_layers() -> Iterator[str]:
    """One name for each class, as the table has it."""
    named = [(name, value) for name, value in vars_of(L) if inspect.isclass(value)]
    if KERAS_2:
        import tensorflow_addons as tfa

        experimental = vars_of(L.experimental)
        named += [(f"layers.experimental.{name}", value) for name, value in experimental]
        named += [(f"tfa.layers.{name}", value) for name, value in vars_of(tfa.layers)]
    with_row = {row.layer.name for row in ROWS}
    names: dict[Any, list[str]] = {}
    for name, value in named:
        if inspect.isclass(value) and issubclass(value, L.Layer):
            names.setdefault(value, []).append(name)
    for aliases in names.values():
        yield next((name for name in aliases if name in with_row), aliases[-1])


def public_activations() -> Iterator[str]:
    modules = {"activations": tf.keras.activations}
    if KERAS_2:
        import tensorflow_addons as tfa

        modules["tfa.activations"] = tfa.activations
    for prefix, module in modules.items():
        for name, value in vars_of(module):
            if inspect.isfunction(value) and name not in ("deserialize", "get", "serialize"):
                yield f"{prefix}.{name}"


def vars_of(module: Any) -> list[tuple[str, Any]]:
    return [(name, getattr(module, name)) for name in dir(module) if not name.startswith("_")]


def test_every_layer_and_activation_has_a_row() -> None:
    names = {*public_layers(), *public_activations()}
    with_row = {row.layer.name for row in ROWS}
    assert names - with_row - set(WITHOUT_ROW[WORLD]) == set()


@pytest.mark.skipif(not KERAS_2, reason="cells of TensorFlow Addons")
def test_every_cell_has_a_row() -> None:
    import tensorflow_addons as tfa

    cells = {f"tfa.rnn.{name}" for name, value in vars_of(tfa.rnn) if inspect.isclass(value)}
    text = " ".join(map(str, ROWS))
    assert [cell for cell in sorted(cells) if f"{cell}(" not in text] == []


def test_documentation_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.conversion.builtin_layers"


@tf.keras.utils.register_keras_serializable("onnxnorm_tests")
class Bessel(L.Layer):
    """An operation without ONNX form."""

    def call(self, x: Any) -> Any:
        return tf.math.bessel_i0e(x)

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


@tf.keras.utils.register_keras_serializable("onnxnorm_tests")
class Cell(L.Layer):
    """A recurrent cell with such a layer in it."""

    state_size = output_size = 4

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.inner = Bessel(name="culprit")

    def call(self, x: Any, states: Any) -> Any:
        y = self.inner(x + states[0])
        return y, [y]


class Subclassed(tf.keras.Model):
    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.first = L.Dense(4, name="culprit_1")
        self.second = Bessel(name="culprit")

    def call(self, x: Any) -> Any:
        return self.second(self.first(x))


def subclassed() -> Any:
    model = Subclassed()
    model(np.zeros((1, 4), np.float32))
    return model


def culprit() -> Bessel:
    return Bessel(name="culprit")


PLACES = {
    "beside a layer with a number": lambda: functional(
        (4,), L.Dense(4, name="culprit_1"), culprit(), L.Dense(4, name="culprit_2")
    ),
    "with a number": lambda: functional((4,), L.Dense(4, name="bess"), Bessel(name="culprit")),
    "nested model": lambda: functional((4,), functional((4,), culprit())),
    "sequential": lambda: tf.keras.Sequential([tf.keras.Input((4,)), culprit()]),
    "subclassed": subclassed,
    "nested subclassed": lambda: functional((4,), subclassed()),
    "recurrent loop": lambda: functional((3, 4), L.RNN(Cell())),
    "bidirectional": lambda: functional((3, 4), L.Bidirectional(L.RNN(Cell()))),
    "time distributed": lambda: functional((3, 4), L.TimeDistributed(culprit(), name="culprit")),
}


@pytest.mark.parametrize("place", PLACES)
def test_refusal_names_the_layer_at(place: str) -> None:
    with pytest.raises(onnxnorm.ConversionError, match=r"layer 'culprit': .*BesselI0e"):
        onnxnorm.convert(PLACES[place]())
