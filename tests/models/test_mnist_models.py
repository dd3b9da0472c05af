"""The five networks are those of the tutorial, and depend on their seed alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import models
from models import MODELS, NORM_LAYER

tf = pytest.importorskip("tensorflow")
tfa = pytest.importorskip("tensorflow_addons")

from models import mnist  # noqa: E402 # needs both

NETWORK = ("Reshape", "Conv2D", None, "Flatten", "Dense", "Dropout", "Dense")


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    return models.build(request.param, seed=3)


def test_every_name_has_a_builder() -> None:
    assert list(MODELS) == list(mnist.BUILDERS)
    assert all(name == card.name for name, card in MODELS.items())


def test_network_around_the_normalization(model: Any) -> None:
    classes = [type(layer).__name__ for layer in model.layers]
    assert all(wanted in (found, None) for wanted, found in zip(NETWORK, classes, strict=True))
    reshape, conv, _, _, hidden, dropout, output = model.layers
    assert reshape.target_shape == (28, 28, 1)
    assert (conv.filters, conv.kernel_size, conv.data_format) == (10, (3, 3), "channels_last")
    assert (hidden.units, hidden.activation.__name__) == (128, "relu")
    assert dropout.rate == 0.2
    assert (output.units, output.activation.__name__) == (10, "softmax")


def test_images_in_and_probabilities_out(model: Any) -> None:
    assert model.input_shape == (None, 28, 28)
    probabilities = model(np.full((3, 28, 28), 0.5, np.float32), training=False).numpy()
    assert probabilities.shape == (3, 10)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "layer_class", "arguments"),
    [
        ("group_norm", tfa.layers.GroupNormalization, {"groups": 5, "axis": 3, "epsilon": 1e-3}),
        ("instance_norm", tfa.layers.InstanceNormalization, {"axis": 3}),
        ("layer_norm", tf.keras.layers.LayerNormalization, {"axis": [3], "epsilon": 1e-3}),
        ("batch_norm", tf.keras.layers.BatchNormalization, {"axis": [3]}),
        ("constrained_group_norm", tfa.layers.GroupNormalization, {"groups": 2, "axis": 3}),
    ],
)
def test_normalization_layer(name: str, layer_class: type, arguments: dict[str, Any]) -> None:
    layer = models.build(name).get_layer(NORM_LAYER)
    assert type(layer) is layer_class
    assert {key: getattr(layer, key) for key in arguments} == arguments
    assert layer.center
    assert layer.scale


def test_instance_norm_starts_from_random_gamma_and_beta() -> None:
    layer = models.build("instance_norm").get_layer(NORM_LAYER)
    initializers = (layer.gamma_initializer, layer.beta_initializer)
    assert all(isinstance(one, tf.keras.initializers.RandomUniform) for one in initializers)
    assert len(np.unique(layer.gamma)) == 10
    assert len(np.unique(layer.beta)) == 10


def test_constrained_group_norm_has_all_that_acts_in_training() -> None:
    config = models.build("constrained_group_norm").get_layer(NORM_LAYER).get_config()
    for weight in ("gamma", "beta"):
        for kind in ("initializer", "constraint", "regularizer"):
            assert config[f"{weight}_{kind}"] is not None
    assert config["gamma_constraint"]["class_name"] == "NonNeg"
    assert config["beta_constraint"]["class_name"] == "MaxNorm"


@pytest.mark.parametrize("name", MODELS)
def test_weights_depend_on_the_seed_alone(name: str) -> None:
    first = models.build(name, seed=1).get_weights()
    tf.random.uniform((3,))
    again = models.build(name, seed=1).get_weights()
    other = models.build(name, seed=2).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_unknown_model_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        models.build("no_norm")
