"""Real networks, weights random: their names here, each in a file of its own.

This file imports no TensorFlow, so that a name can be checked before anything slow starts.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Network:
    """What a reader needs to know of a network without building it.

    Attributes:
        name: the key in `NETWORKS` and the name of its file here.
        title: one line for tables and pages.
        needs: modules besides TensorFlow that it is made of.
        norm: its normalization layer, as a paper calls it.
    """

    name: str
    title: str
    norm: str
    needs: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name

    def missing(self) -> tuple[str, ...]:
        """Modules that it needs and that are not installed."""
        return tuple(name for name in self.needs if importlib.util.find_spec(name) is None)

    def build(self, small: bool = False) -> tf.keras.Model:
        """The network with random weights, the same at every call.

        Args:
            small: with few layers on a small input, for tests.
        """
        import tensorflow as tf

        tf.keras.utils.set_random_seed(0)
        module = self._module()
        return _with_every_parameter_in_use(module.build(module.SMALL if small else module.FULL))

    def inputs(self, batch: int, small: bool = False) -> dict[str, NDArray[Any]]:
        """Random inputs by name, the same at every call."""
        module = self._module()
        config = module.SMALL if small else module.FULL
        found: dict[str, NDArray[Any]] = module.inputs(config, batch, np.random.default_rng(0))
        return found

    def _module(self) -> Any:
        return importlib.import_module(f"{__name__}.{self.name}")


NETWORKS: Mapping[str, Network] = MappingProxyType(
    {
        network.name: network
        for network in (
            Network("convnext_tiny", "ConvNeXt-Tiny", "layer"),
            Network("resnet50_group_norm", "ResNet-50 with group norm", "group"),
            Network("resnet50_batch_norm", "ResNet-50 as published", "batch"),
            Network("style_transfer", "fast style transfer", "instance"),
            Network("dcgan", "DCGAN generator", "instance"),
            Network("vit", "ViT-Tiny/16", "layer", ("keras_hub",)),
            Network("bert", "BERT-Small", "layer", ("keras_hub",)),
            Network("gpt2", "GPT-2, 6 blocks of 384", "layer", ("keras_hub",)),
            Network("swin_v2_tiny", "Swin-V2-Tiny", "layer", ("keras_cv_attention_models",)),
            Network("coatnet0", "CoAtNet-0", "layer", ("keras_cv_attention_models",)),
            Network("layer_norm_lstm", "two-layer LSTM", "layer", ("tensorflow_addons",)),
        )
    }
)


def _with_every_parameter_in_use(model: tf.keras.Model) -> tf.keras.Model:
    """Moves vectors off the ones and zeros that they start with: no scale 1, no bias 0.

    A block behind a scale of 1e-6, as ConvNeXt starts, would prove nothing.
    """
    generator = np.random.default_rng(0)
    model.set_weights(
        [
            value + generator.uniform(0.05, 0.25, value.shape).astype(value.dtype)
            if value.ndim == 1 and value.dtype.kind == "f"
            else value
            for value in model.get_weights()
        ]
    )
    return model
