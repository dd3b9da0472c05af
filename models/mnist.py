"""The networks of the TensorFlow Addons normalization tutorial, one for each normalization layer.

Reshape(28, 28, 1), Conv2D(10, 3x3, channels last), normalization, Flatten, Dense(128, relu),
Dropout(0.2), Dense(10, softmax). Only the normalization differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import tensorflow as tf
import tensorflow_addons as tfa

from models import NORM_LAYER

CHANNEL_AXIS = 3


def group_norm(seed: int) -> tf.keras.Model:
    """The tutorial's network with `tfa.layers.GroupNormalization` over 5 groups of 2 channels."""
    return _network(
        "group_norm",
        lambda: tfa.layers.GroupNormalization(groups=5, axis=CHANNEL_AXIS, name=NORM_LAYER),
        seed,
    )


def instance_norm(seed: int) -> tf.keras.Model:
    """The tutorial's network with `tfa.layers.InstanceNormalization`, gamma and beta random."""
    return _network(
        "instance_norm",
        lambda: tfa.layers.InstanceNormalization(
            axis=CHANNEL_AXIS,
            center=True,
            scale=True,
            beta_initializer="random_uniform",
            gamma_initializer="random_uniform",
            name=NORM_LAYER,
        ),
        seed,
    )


def layer_norm(seed: int) -> tf.keras.Model:
    """The tutorial's network with `tf.keras.layers.LayerNormalization` over the channels."""
    return _network(
        "layer_norm",
        lambda: tf.keras.layers.LayerNormalization(
            axis=CHANNEL_AXIS, center=True, scale=True, name=NORM_LAYER
        ),
        seed,
    )


def batch_norm(seed: int) -> tf.keras.Model:
    """The same network with BatchNormalization, which folds into the convolution before it."""
    return _network(
        "batch_norm",
        lambda: tf.keras.layers.BatchNormalization(axis=CHANNEL_AXIS, name=NORM_LAYER),
        seed,
    )


def constrained_group_norm(seed: int) -> tf.keras.Model:
    """Group normalization with everything that acts on gamma and beta in training only."""
    return _network(
        "constrained_group_norm",
        lambda: tfa.layers.GroupNormalization(
            groups=2,
            axis=CHANNEL_AXIS,
            epsilon=1e-5,
            beta_initializer=tf.keras.initializers.RandomNormal(stddev=0.1),
            gamma_initializer=tf.keras.initializers.RandomUniform(0.5, 1.5),
            beta_regularizer=tf.keras.regularizers.L2(1e-3),
            gamma_regularizer=tf.keras.regularizers.L1(1e-4),
            beta_constraint=tf.keras.constraints.MaxNorm(2.0),
            gamma_constraint=tf.keras.constraints.NonNeg(),
            name=NORM_LAYER,
        ),
        seed,
    )


BUILDERS: Mapping[str, Callable[[int], tf.keras.Model]] = MappingProxyType(
    {
        builder.__name__: builder
        for builder in (group_norm, instance_norm, layer_norm, batch_norm, constrained_group_norm)
    }
)


def _network(
    name: str, normalization: Callable[[], tf.keras.layers.Layer], seed: int
) -> tf.keras.Model:
    # Keras draws the seed of every initializer that has none from the global generators.
    tf.keras.utils.set_random_seed(seed)
    return tf.keras.Sequential(
        [
            tf.keras.layers.Reshape((28, 28, 1), input_shape=(28, 28), name="reshape"),
            tf.keras.layers.Conv2D(10, (3, 3), data_format="channels_last", name="conv"),
            normalization(),
            tf.keras.layers.Flatten(name="flatten"),
            tf.keras.layers.Dense(128, activation="relu", name="hidden"),
            tf.keras.layers.Dropout(0.2, name="dropout"),
            tf.keras.layers.Dense(10, activation="softmax", name="probabilities"),
        ],
        name=name,
    )
