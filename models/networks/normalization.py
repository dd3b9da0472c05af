"""The normalization layers that Addons and Keras 3 have under different names."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

try:
    import tensorflow_addons as tfa
except ImportError:
    tfa = None


def group_norm(groups: int, **kwargs: Any) -> tf.keras.layers.Layer:
    """Group normalization over the last axis."""
    layers = tf.keras.layers if tfa is None else tfa.layers
    return layers.GroupNormalization(groups, **kwargs)


def instance_norm(**kwargs: Any) -> tf.keras.layers.Layer:
    """Instance normalization over the last axis: Keras 3 writes it as one channel per group."""
    if tfa is None:
        return tf.keras.layers.GroupNormalization(-1, **kwargs)
    return tfa.layers.InstanceNormalization(**kwargs)
