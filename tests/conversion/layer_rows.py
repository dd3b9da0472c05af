"""One layer with its arguments as a row of a table that needs no TensorFlow to be read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class New:
    """A layer that is yet to be made: its class, by name, and the arguments.

    The class is one of ``tf.keras.layers``; with dots in its name it is looked up in ``tf``,
    ``tf.keras`` or, as ``tfa``, in TensorFlow Addons. Arguments of this class are made too.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, **more: Any) -> Any:
        arguments = [_made(value) for value in self.arguments]
        options = {key: _made(value) for key, value in self.options.items()}
        return attribute(self.name)(*arguments, **options, **more)

    def __repr__(self) -> str:
        given = [*map(_text, self.arguments)]
        given += [f"{key}={_text(value)}" for key, value in self.options.items()]
        return f"{self.name}({', '.join(given)})"


def new(name: str, *arguments: Any, **options: Any) -> New:
    return New(name, arguments, options)


def attribute(name: str) -> Any:
    """What has this name: see `New`."""
    import tensorflow as tf

    if name == "saved_model":
        return saved_model
    start, *path = name.split(".") if "." in name else ("keras", "layers", name)
    if start == "tfa":
        import tensorflow_addons as found
    else:
        found = getattr(tf.keras if start in ("activations", "layers") else tf, start)
    for part in path:
        found = getattr(found, part)
    return found


def saved_model() -> str:
    """The folder of a SavedModel with one function that ``TFSMLayer`` can call."""
    import tensorflow as tf

    module = tf.Module()
    weights = tf.random.stateless_normal((6, 3), (1, 2))
    module.serve = tf.function(
        lambda x: tf.nn.relu(x @ weights), input_signature=[tf.TensorSpec([None, 6])]
    )
    folder = tempfile.mkdtemp()
    tf.saved_model.save(module, folder, signatures={"serve": module.serve})
    return folder


def _made(value: Any) -> Any:
    if isinstance(value, New):
        return value()
    return [_made(item) for item in value] if isinstance(value, list) else value


def _text(value: Any) -> str:
    return getattr(value, "__name__", repr(value)) if callable(value) else repr(value)


@dataclass(frozen=True)
class Input:
    """One input: its shape without the batch, None for a size that varies, and what stands in it.

    Attributes:
        shape: sizes.
        dtype: element type.
        values: ``"normal"``, ``"positive"``, ``"image"`` (0 to 255), ``"state"`` (below 1, as tanh
            leaves it, whatever the scale), the number of classes of integers, or the values to draw
            from.
        batch: the static batch size, if it has one.
    """

    shape: tuple[int | None, ...]
    dtype: str = "float32"
    values: str | int | tuple[Any, ...] = "normal"
    batch: int | None = None

    def draw(
        self, rng: np.random.Generator, batch: int, size: int, scale: float
    ) -> npt.NDArray[Any]:
        shape = (self.batch or batch, *(size if s is None else s for s in self.shape))
        if isinstance(self.values, tuple):
            return rng.choice(np.array(self.values, self.dtype.replace("string", "O")), shape)
        if isinstance(self.values, int):
            return rng.integers(0, self.values, shape).astype(self.dtype)
        if self.values == "image":
            return (rng.random(shape) * 255).astype(self.dtype)
        if self.values == "state":
            return np.tanh(scale * rng.normal(size=shape)).astype(self.dtype)
        drawn = scale * rng.normal(size=shape)
        if self.values == "positive":
            drawn = np.abs(drawn) + 0.1
        return drawn.astype(self.dtype)


def x(*shape: int | None, **options: Any) -> Input:
    return Input(shape, **options)


def state(units: int) -> Input:
    """The state of a recurrent layer. Far from 1 it would not be one, and a new state would be the
    difference of numbers that are large beside it."""
    return Input((units,), values="state")


def _all_in_one(layer: Any, *inputs: Any) -> Any:
    return layer(list(inputs) if len(inputs) > 1 else inputs[0])


@dataclass(frozen=True)
class Row:
    """One layer with its arguments, and what it is tried on.

    Attributes:
        layer: the layer, or the activation function.
        inputs: its inputs.
        refused: why it has no ONNX form, as part of the message; empty for what converts.
        before: layers between the first input and this one.
        call: how it is called, if not with a tensor or a list of tensors.
        note: what the call adds to the arguments, for the reader.
        needs_onednn: the worlds whose Keras computes it on a CPU with oneDNN only.
    """

    layer: New
    inputs: tuple[Input, ...]
    refused: str = ""
    before: tuple[New, ...] = ()
    call: Callable[..., Any] = _all_in_one
    note: str = ""
    needs_onednn: tuple[str, ...] = ()

    def apply(self, inputs: Sequence[Any], name: str) -> Any:
        """The outputs for symbolic inputs."""
        first, *rest = inputs
        for layer in self.before:
            first = layer()(first)
        if ".activations." in f".{self.layer.name}":
            function = partial(
                attribute(self.layer.name), *self.layer.arguments, **self.layer.options
            )
            return New("Lambda", (function,))(name=name)(first)
        return self.call(self.layer(name=name), first, *rest)

    def model(self, name: str = "the_layer") -> Any:
        """A functional model of this layer alone."""
        import tensorflow as tf

        inputs = [
            tf.keras.Input(given.shape, batch_size=given.batch, dtype=given.dtype)
            for given in self.inputs
        ]
        return tf.keras.Model(inputs, self.apply(inputs, name))

    def __str__(self) -> str:
        text = f"{self.layer}{self.note}"
        return " → ".join([*map(str, self.before), text])


def rows(name: str, on: Input | tuple[Input, ...], *arguments: New, **options: Any) -> list[Row]:
    """A row for each set of arguments, or one for the layer without any."""
    inputs = on if isinstance(on, tuple) else (on,)
    given = arguments or (a(),)
    return [Row(New(name, g.arguments, g.options), inputs, **options) for g in given]


def a(*arguments: Any, **options: Any) -> New:
    """The arguments of a row's layer."""
    return New("", arguments, options)


def each(names: Iterable[str], on: Input, *arguments: New, **options: Any) -> list[Row]:
    return [row for name in names for row in rows(name, on, *arguments, **options)]
