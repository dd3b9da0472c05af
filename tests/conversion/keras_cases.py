"""Keras models as a table: what each is made of, and the operators that it must become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

try:
    import tensorflow_addons as tfa
except ImportError:
    tfa = None

L = tf.keras.layers
KERAS_2 = tfa is not None
Norm = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One network with normalization layers in it.

    Attributes:
        build: makes the network from its normalization layers; called with other layers in their
            place it gives the network without normalization.
        norms: makers of the normalization layers, in the order of ``build``.
        inputs: shapes of the inputs, batch included.
        custom: operators of the custom form, where the table states them.
        native: operators of the native form.
        calls: number of normalization nodes.
        folded: number of normalization layers that are none at inference.
    """

    build: Callable[..., Any]
    norms: tuple[Norm, ...]
    inputs: tuple[tuple[int, ...], ...]
    custom: str = ""
    native: str = ""
    calls: int = 1
    folded: int = 0

    def model(self) -> Any:
        return randomized(self.build(*(norm() for norm in self.norms)))

    def arrays(self) -> list[npt.NDArray[np.float32]]:
        rng = np.random.default_rng(7)
        return [rng.normal(size=shape).astype(np.float32) for shape in self.inputs]


def randomized(model: Any) -> Any:
    """The model with every weight moved: scales off one, biases off zero."""
    rng = np.random.default_rng(11)
    model.set_weights(
        [
            w + rng.normal(scale=0.2, size=w.shape).astype(w.dtype) if w.dtype.kind == "f" else w
            for w in model.get_weights()
        ]
    )
    return model


def functional(shape: Sequence[int | None], *layers: Any) -> Any:
    """A chain of layers as a functional model."""
    x = inputs = tf.keras.Input(tuple(shape))
    for layer in layers:
        x = layer(x)
    return tf.keras.Model(inputs, x)


def mnist(norm: Any) -> Any:
    return tf.keras.Sequential(
        [
            L.Reshape((28, 28, 1), input_shape=(28, 28)),
            L.Conv2D(10, (3, 3)),
            norm,
            L.Flatten(),
            L.Dense(16, activation="relu"),
            L.Dropout(0.2),
            L.Dense(10, activation="softmax"),
        ]
    )


def alone(*shape: int | None) -> Callable[[Any], Any]:
    return lambda norm: functional(shape, norm)


def between_convolutions(norm: Any) -> Any:
    return functional((8, 8, 2), L.Conv2D(8, 3), norm, L.ReLU(), L.Conv2D(4, 3))


def residual(first: Any, second: Any) -> Any:
    inputs = tf.keras.Input((8, 8, 4))
    x = L.ReLU()(first(L.Conv2D(4, 3, padding="same")(inputs)))
    y = second(L.Conv2D(4, 3, padding="same")(x))
    x = L.ReLU()(L.Add()([x, y]))
    return tf.keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(x)))


def shared_in_inner_model(norm: Any) -> Any:
    inner = tf.keras.Sequential([L.Conv2D(6, 3, padding="same"), norm, L.ReLU()])
    inputs = tf.keras.Input((None, None, 6))
    return tf.keras.Model(inputs, inner(norm(inner(inputs))))


def two_inputs(first: Any, second: Any) -> Any:
    a, b = tf.keras.Input((4,)), tf.keras.Input((4,))
    return tf.keras.Model([a, b], [first(a + b), second(b), a])


def time_distributed(norm: Any) -> Any:
    return functional((5, 8, 8, 3), L.TimeDistributed(L.Conv2D(4, 3)), L.TimeDistributed(norm))


class Subclassed(tf.keras.Model):
    """Layers in a list, a dictionary as output."""

    def __init__(self, *norms: Any) -> None:
        super().__init__()
        self.convolution = L.Conv2D(8, 3)
        self.norms = list(norms)

    def call(self, x: Any, training: bool = False) -> dict[str, Any]:
        x = self.convolution(x)
        for norm in self.norms:
            x = tf.nn.relu(norm(x))
        return {"features": x, "mean": tf.reduce_mean(x, [1, 2])}


def subclassed(*norms: Any) -> Any:
    model = Subclassed(*norms)
    model(np.zeros((1, 8, 8, 3), np.float32))
    return model


class InTraining(L.Layer):
    """Calls a layer with ``training=True`` whatever its own caller says."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def call(self, x: Any) -> Any:
        return self.inner(x, training=True)


def batch_in_training(**arguments: Any) -> Callable[[], Any]:
    return lambda: functional(
        (8, 8, 4), L.Conv2D(4, 3), InTraining(L.BatchNormalization(**arguments))
    )


class Branching(tf.keras.Model):
    """Which of two layers runs depends on the data."""

    def __init__(self, first: Any, second: Any) -> None:
        super().__init__()
        self.first, self.second = first, second

    def build(self, input_shape: Any) -> None:
        self.first.build(input_shape)
        self.second.build(input_shape)
        super().build(input_shape)

    def call(self, x: Any) -> Any:
        return tf.cond(tf.reduce_sum(x) > 0, lambda: self.first(x), lambda: 2.0 * self.second(x))


def branching(*norms: Any) -> Any:
    model = Branching(*norms)
    model(np.zeros((2, 5, 6), np.float32))
    return model


def layer(**arguments: Any) -> Norm:
    return lambda: L.LayerNormalization(**arguments)


MNIST_TAIL = "Transpose Reshape MatMul Add Relu MatMul Add Softmax"
MNIST_LAYER_TAIL = "Reshape MatMul Add Relu MatMul Add Softmax"
MOMENTS = "ReduceMean Sub Mul ReduceMean Add Sqrt Div"

CASES: dict[str, Case] = {
    "mnist layer": Case(
        mnist,
        (layer(axis=3),),
        ((3, 28, 28),),
        f"Reshape Conv Transpose LayerNormalization {MNIST_LAYER_TAIL}",
        f"Reshape Conv Transpose LayerNormalization {MNIST_LAYER_TAIL}",
    ),
    "layer over the image": Case(
        mnist,
        (layer(axis=[1, 2, 3]),),
        ((3, 28, 28),),
        f"Reshape Conv LayerNormalization {MNIST_TAIL}",
        f"Reshape Conv LayerNormalization {MNIST_TAIL}",
    ),
    "layer over space": Case(
        mnist,
        (layer(axis=[2, 1]),),
        ((3, 28, 28),),
        f"Reshape Conv LayerNormalization {MNIST_TAIL}",
        f"Reshape Conv LayerNormalization {MNIST_TAIL}",
    ),
    "layer between convolutions": Case(
        between_convolutions,
        (layer(),),
        ((2, 8, 8, 2),),
        "Transpose Conv LayerNormalization Relu Conv Transpose",
        f"Transpose Conv {MOMENTS} Mul Add Relu Conv Transpose",
    ),
    "layer without scale and bias": Case(
        alone(7), (layer(center=False, scale=False),), ((3, 7),), "LayerNormalization"
    ),
    "layer unsorted axes": Case(alone(4, 5, 6), (layer(axis=[3, 1]),), ((2, 4, 5, 6),)),
    "layer unknown sizes": Case(alone(None, None, 6), (layer(),), ((2, 3, 5, 6),)),
    "layer tiny epsilon": Case(alone(5, 9), (layer(epsilon=1e-7),), ((2, 5, 9),)),
    "keras group": Case(
        alone(8, 8, 6),
        (lambda: L.GroupNormalization(3, epsilon=1e-2),),
        ((2, 8, 8, 6),),
        "GroupNormalization",
    ),
    "keras group, every channel its own": Case(
        alone(None, 6, 5),
        (lambda: L.GroupNormalization(-1, axis=-2, scale=False),),
        ((2, 3, 6, 5),),
        "GroupNormalization",
    ),
    "grouped and depthwise convolutions": Case(
        lambda norm: functional(
            (8, 8, 4), L.DepthwiseConv2D(3), norm, L.Conv2D(8, 3, groups=2), L.ReLU()
        ),
        (layer(),),
        ((2, 8, 8, 4),),
        "Transpose Conv LayerNormalization Conv Relu Transpose",
    ),
    "unit": Case(alone(4, 6), (L.UnitNormalization,), ((2, 4, 6),), "UnitNormalization"),
    "unit over several axes": Case(
        alone(None, 5, None),
        (lambda: L.UnitNormalization(axis=[3, -3]),),
        ((2, 4, 5, 6),),
        "UnitNormalization",
    ),
    "batch": Case(
        lambda: functional((8, 8, 2), L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU()),
        (),
        ((2, 8, 8, 2),),
        "Transpose Conv Relu Transpose",
        calls=0,
        folded=1,
    ),
    "batch over any axis": Case(
        lambda: functional(
            (6, 5, 4), *(L.BatchNormalization(axis=a, scale=a > 1, center=a < 3) for a in (1, 2, 3))
        ),
        (),
        ((2, 6, 5, 4),),
        calls=0,
        folded=3,
    ),
    "batch of rank 2": Case(
        lambda: functional((5,), L.Dense(6), L.BatchNormalization(epsilon=1e-6, trainable=False)),
        (),
        ((3, 5),),
        calls=0,
        folded=1,
    ),
    "batch in training": Case(
        batch_in_training(epsilon=1e-6),
        (),
        ((5, 8, 8, 4),),
        "Transpose Conv LayerNormalization Transpose",
    ),
    "batch in training, over rows": Case(
        batch_in_training(axis=2, scale=False),
        (),
        ((5, 8, 8, 4),),
    ),
    "batch in training, frozen": Case(
        batch_in_training(trainable=False),
        (),
        ((5, 8, 8, 4),),
        calls=0,
        folded=1,
    ),
    "layer in two branches": Case(two_inputs, (layer(), layer()), ((2, 4), (2, 4)), calls=2),
    "layer subclassed": Case(subclassed, (layer(), layer(axis=1)), ((2, 8, 8, 3),), calls=2),
    "group and layer in branches": Case(
        branching,
        (lambda: L.GroupNormalization(3), layer(axis=1)),
        ((2, 5, 6),),
        calls=2,
    ),
    "layer time distributed": Case(
        time_distributed, (layer(),), ((2, 5, 8, 8, 3),), calls=1 if KERAS_2 else 5
    ),
}

SPECTRAL = [
    wrapper
    for wrapper in (
        getattr(L, "SpectralNormalization", None),
        tfa.layers.SpectralNormalization if tfa else None,
    )
    if wrapper
]
CASES |= {
    f"spectral of {wrapper.__module__.partition('.')[0]}": Case(
        lambda wrapper=wrapper: functional(
            (6, 6, 2), wrapper(L.Conv2D(4, 3)), L.Flatten(), wrapper(L.Dense(3, "relu"))
        ),
        (),
        ((2, 6, 6, 2),),
        calls=0,
        folded=2,
    )
    for wrapper in SPECTRAL
}

if not KERAS_2:

    def rms(**arguments: Any) -> Norm:
        return lambda: L.RMSNormalization(**arguments)

    CASES |= {
        "rms": Case(between_convolutions, (rms(epsilon=1e-3),), ((2, 8, 8, 2),)),
        "rms over several axes": Case(alone(None, 5, 6), (rms(axis=[-1, -2]),), ((2, 4, 5, 6),)),
        "rms over an axis before": Case(alone(6, 1), (rms(axis=[1, 2]),), ((2, 6, 1),)),
        "rms whose scale runs along another axis": Case(
            alone(5, None, 5), (rms(axis=1),), ((2, 5, 3, 5),)
        ),
        "rms time distributed": Case(
            lambda norm: functional((3, None, 4), L.TimeDistributed(norm)),
            (rms(),),
            ((2, 3, 5, 4),),
            calls=3,
        ),
        "rms time distributed over any length": Case(
            lambda norm: functional((None, None, 4), L.TimeDistributed(norm), L.ReLU()),
            (rms(),),
            ((2, 3, 5, 4),),
        ),
        "layer scaled by the deviation": Case(
            between_convolutions, (layer(rms_scaling=True),), ((2, 8, 8, 2),)
        ),
        "layer scaled by the deviation over several axes": Case(
            alone(None, 5, 6), (layer(axis=[3, 2], rms_scaling=True, scale=False),), ((2, 4, 5, 6),)
        ),
    }

if tfa is not None:

    def group(groups: int, **arguments: Any) -> Norm:
        return lambda: tfa.layers.GroupNormalization(groups, **arguments)

    def instance(**arguments: Any) -> Norm:
        return lambda: tfa.layers.InstanceNormalization(**arguments)

    LSTM, SIMPLE = tfa.rnn.LayerNormLSTMCell, tfa.rnn.LayerNormSimpleRNNCell

    def recurrent(*cells: Any, wrap: Callable[[Any], Any] = lambda rnn: rnn) -> Callable[[], Any]:
        return lambda: functional(
            (None, 3), *(wrap(L.RNN(cell(4), return_sequences=True)) for cell in cells)
        )

    def weight(layer: Callable[[], Any], *shape: int, **arguments: Any) -> Case:
        wrapper = tfa.layers.WeightNormalization
        return Case(
            lambda: functional(shape, wrapper(layer(), **arguments)),
            (),
            ((3, *shape),),
            calls=0,
            folded=1,
        )

    CASES |= {
        "mnist group": Case(
            mnist,
            (group(5, axis=3),),
            ((3, 28, 28),),
            f"Reshape Conv Transpose GroupNormalization {MNIST_LAYER_TAIL}",
            f"Reshape Conv Reshape InstanceNormalization Reshape Mul Add {MNIST_TAIL}",
        ),
        "mnist instance": Case(
            mnist,
            (instance(axis=3, gamma_initializer="random_uniform"),),
            ((3, 28, 28),),
            f"Reshape Conv Transpose InstanceNormalization {MNIST_LAYER_TAIL}",
            f"Reshape Conv InstanceNormalization {MNIST_TAIL}",
        ),
        "residual block": Case(
            residual,
            (group(2), group(4)),
            ((2, 8, 8, 4),),
            "Transpose Conv GroupNormalization Relu Conv GroupNormalization Add Relu "
            "Transpose ReduceMean MatMul Add",
            calls=2,
        ),
        "group over rows": Case(
            mnist,
            (group(2, axis=-2, scale=False),),
            ((3, 28, 28),),
            f"Reshape Conv GroupNormalization {MNIST_TAIL}",
            "Reshape Conv Reshape ReduceMean ReduceMean Sub Mul ReduceMean ReduceMean Add Sqrt Div "
            f"Add Reshape {MNIST_TAIL}",
        ),
        "shared in an inner model": Case(
            shared_in_inner_model, (group(3),), ((2, 7, 9, 6),), calls=3
        ),
        "group static batch": Case(
            lambda norm: tf.keras.Sequential([L.InputLayer((8, 8, 4), batch_size=2), norm]),
            (group(1),),
            ((2, 8, 8, 4),),
            "GroupNormalization",
        ),
        "group with everything trained with": Case(
            alone(8, 8, 4),
            (
                group(
                    2,
                    beta_initializer="random_uniform",
                    gamma_initializer="random_normal",
                    beta_regularizer="l2",
                    gamma_regularizer="l1",
                    beta_constraint="max_norm",
                    gamma_constraint="non_neg",
                ),
            ),
            ((2, 8, 8, 4),),
            "GroupNormalization",
        ),
        "one dimensional convolutions": Case(
            lambda norm: functional((16, 8), L.Conv1D(8, 3), norm, L.ReLU(), L.Conv1D(4, 3)),
            (group(2),),
            ((2, 16, 8),),
        ),
        "three dimensional convolutions": Case(
            lambda norm: functional((6, 8, 8, 2), L.Conv3D(8, 3), norm, L.ReLU(), L.Conv3D(4, 3)),
            (instance(),),
            ((2, 6, 8, 8, 2),),
            "Transpose Conv InstanceNormalization Relu Conv Transpose",
        ),
        "transposed convolutions": Case(
            lambda norm: functional(
                (6, 6, 4), L.Conv2DTranspose(8, 3, 2), norm, L.LeakyReLU(), L.Conv2DTranspose(2, 3)
            ),
            (instance(),),
            ((2, 6, 6, 4),),
        ),
        "swish": Case(
            lambda norm: functional(
                (8, 8, 4), L.Conv2D(4, 3), norm, L.Activation("swish"), L.Conv2D(4, 3)
            ),
            (group(2),),
            ((2, 8, 8, 4),),
        ),
        "subclassed": Case(subclassed, (group(4), instance()), ((2, 8, 8, 3),), calls=2),
        "time distributed": Case(time_distributed, (group(2),), ((2, 5, 8, 8, 3),)),
        "recurrent, stacked": Case(recurrent(SIMPLE, LSTM), (), ((2, 5, 3),), calls=4),
        "bidirectional": Case(
            recurrent(LSTM, SIMPLE, wrap=L.Bidirectional), (), ((2, 5, 3),), calls=8
        ),
        "filter response": Case(
            between_convolutions,
            (lambda: tfa.layers.FilterResponseNormalization(epsilon=-1e-3),),
            ((2, 8, 8, 2),),
            "Transpose Conv FilterResponseNormalization Relu Conv Transpose",
        ),
        "filter response with learned epsilon": Case(
            alone(8, 6, 4),
            (lambda: tfa.layers.FilterResponseNormalization(learned_epsilon=True),),
            ((2, 8, 6, 4),),
            "FilterResponseNormalization",
        ),
        "weights of a dense layer": weight(lambda: L.Dense(4, "relu"), 5, data_init=False),
        "weights of a dense layer, data": weight(lambda: L.Dense(4, "relu"), 6, 5),
        "weights of a convolution": weight(lambda: L.Conv2D(4, 3), 8, 8, 2),
        "weights of a transposed convolution": weight(
            lambda: L.Conv2DTranspose(4, 3, use_bias=False), 8, 8, 2, data_init=False
        ),
        "weights of a recurrent layer": weight(lambda: L.SimpleRNN(4), 5, 3, data_init=False),
        "batch with renorm": Case(
            lambda: functional((8, 8, 4), L.Conv2D(4, 3), L.BatchNormalization(renorm=True)),
            (),
            ((2, 8, 8, 4),),
            calls=0,
            folded=1,
        ),
        "batch, synchronized": Case(
            lambda: functional((8, 8, 4), L.experimental.SyncBatchNormalization()),
            (),
            ((2, 8, 8, 4),),
            calls=0,
            folded=1,
        ),
    }

KINDS: dict[str, Callable[[int], Norm]] = {
    "layer": lambda axis: layer(axis=axis, scale=False),
    "unit": lambda axis: lambda: L.UnitNormalization(axis=axis),
}
if KERAS_2:
    KINDS |= {
        "group with one channel each": lambda axis: group(6, axis=axis),
        "instance": lambda axis: instance(axis=axis, center=False),
    }
else:
    KINDS["group"] = lambda axis: lambda: L.GroupNormalization(3, axis=axis)

for _kind, _norm in KINDS.items():
    for _rank in range(2, 6):
        for _axis in (1, -1, -2)[:_rank]:
            if _rank == 3 and _axis == -2 and _kind not in ("layer", "unit", "group"):
                continue  # the Addons layer itself fails on it
            _sizes: list[int | None] = [None] * (_rank - 1)
            _sizes[_axis % _rank - 1] = 6
            _batch = (2, *(size or 5 for size in _sizes))
            CASES[f"{_kind} rank {_rank} axis {_axis}"] = Case(
                alone(*_sizes), (_norm(_axis),), (_batch,)
            )
