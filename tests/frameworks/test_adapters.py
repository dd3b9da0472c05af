"""Each adapter's formula, in float64, is what its layer computes in float64."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from onnxnorm import ConversionError, Formula  # noqa: E402
from onnxnorm.frameworks import keras_hub, recognize  # noqa: E402
from onnxnorm.opset import OPERATORS  # noqa: E402
from tests.conversion.keras_cases import KERAS_2, functional, randomized, tfa  # noqa: E402
from tests.conversion.test_conversion import norm_nodes, run  # noqa: E402

L = tf.keras.layers
DOCS = Path(__file__).parents[2] / "docs" / "layers.md"
Arguments = dict[str, Any]

OPTIONS: tuple[Arguments, ...] = ({}, {"epsilon": 0.1}, {"scale": False}, {"center": False})
ALONG: tuple[tuple[Any, tuple[int, ...]], ...] = (
    (-1, (3, 6)),
    (1, (3, 6, 5)),
    ([-1, 1], (3, 4, 5, 4)),
    ([2, 3], (2, 3, 4, 6)),
    ([1, 2, 4], (2, 3, 4, 2, 5)),
    ([0, 1], (3, 6)),
)

ROWS: list[tuple[Callable[..., Any], Arguments, tuple[int, ...]]] = [
    *((L.LayerNormalization, {"axis": axis}, shape) for axis, shape in ALONG),
    *((L.LayerNormalization, option, (2, 4, 6)) for option in OPTIONS),
    *((L.UnitNormalization, {"axis": axis}, shape) for axis, shape in ALONG),
    *((L.GroupNormalization, {"groups": 3, **option}, (2, 5, 6)) for option in OPTIONS),
    *(
        (L.GroupNormalization, {"groups": groups, "axis": axis}, (2, 6, 6, 6))
        for groups, axis in ((1, -1), (2, -2), (3, 1), (-1, 2), (6, -1))
    ),
    *(
        (L.BatchNormalization, {"axis": axis, **option}, (4, 6, 5, 6))
        for axis, option in zip((-1, 1, 2, 3), OPTIONS, strict=True)
    ),
]
if not KERAS_2:
    ROWS += [
        *((L.LayerNormalization, {"rms_scaling": True, **o}, (2, 4, 6)) for o in OPTIONS),
        (L.LayerNormalization, {"rms_scaling": True, "axis": [1, 3]}, (2, 4, 5, 6)),
        (L.RMSNormalization, {}, (3, 6)),
        (L.RMSNormalization, {"epsilon": 0.1, "axis": [2, 3]}, (2, 3, 4, 6)),
        (L.RMSNormalization, {"axis": 1}, (2, 5, 3, 5)),
    ]
if tfa is not None:
    ROWS += [
        (L.BatchNormalization, {"axis": [1, 3]}, (4, 6, 5, 6)),
        (L.experimental.SyncBatchNormalization, {}, (4, 6, 5)),
        *((tfa.layers.GroupNormalization, {"groups": 3, **o}, (2, 5, 6)) for o in OPTIONS),
        *((tfa.layers.InstanceNormalization, o, (2, 5, 4, 6)) for o in OPTIONS),
        *(
            (tfa.layers.GroupNormalization, {"groups": groups, "axis": axis}, (2, 6, 6, 6))
            for groups, axis in ((1, -1), (2, -2), (3, 1), (-1, 2), (6, -2))
        ),
        (tfa.layers.FilterResponseNormalization, {"epsilon": -0.1}, (2, 5, 4, 6)),
        (tfa.layers.FilterResponseNormalization, {"learned_epsilon": True}, (2, 5, 4, 6)),
    ]


def built(make: Callable[..., Any], shape: tuple[int, ...], **arguments: Any) -> Any:
    """The layer in float64, built and with its weights moved."""
    layer = make(dtype="float64", **arguments)
    layer.build(shape)
    return randomized(layer)


def by_formula(layer: Any, x: Any) -> Any:
    known = recognize(layer)
    assert known is not None
    fitted = known.fitted(x.shape)
    operator = OPERATORS[fitted.spec.operator]
    attributes = operator.attributes_of(fitted.spec)
    return operator.reference(x, fitted.scale, fitted.bias, **attributes)


@pytest.mark.filterwarnings("ignore:You passed `rms_scaling")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0].__name__}-{row[1]}-{row[2]}")
def test_formula(row: tuple[Callable[..., Any], Arguments, tuple[int, ...]]) -> None:
    make, arguments, shape = row
    layer = built(make, shape, **arguments)
    x = np.random.default_rng(5).normal(size=shape) + 0.5
    training = {"training": True} if "Batch" in make.__name__ else {}
    expected = layer(x, **training).numpy()
    np.testing.assert_allclose(by_formula(layer, x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("length", [0.0, 1e-13, 1e-9, 1e-5])
def test_unit_normalization_of_short_vectors(length: float) -> None:
    layer = built(L.UnitNormalization, (1, 4))
    x = np.full((1, 4), length / 2)
    np.testing.assert_allclose(by_formula(layer, x), layer(x).numpy(), rtol=1e-9)


@pytest.mark.skipif(tfa is None, reason="tensorflow-addons is not installed")
def test_weight_normalization_before_its_first_call() -> None:
    def known(data_init: bool) -> Any:
        layer = tfa.layers.WeightNormalization(L.Dense(4, use_bias=False), data_init=data_init)
        layer.build((None, 6))
        return recognize(randomized(layer))

    x = np.random.default_rng(5).normal(size=(3, 6)).astype(np.float32)
    wrapper = known(data_init=False)
    kernel = wrapper.weight(wrapper.layer).value
    np.testing.assert_allclose(x @ kernel, wrapper.layer(x).numpy(), atol=1e-6)
    wrapper = known(data_init=True)
    with pytest.raises(ConversionError, match=r"has seen none; call the model on data"):
        wrapper.weight(wrapper.layer)


@tf.keras.utils.register_keras_serializable("onnxnorm_tests")
class Mine(L.Layer):
    """RMS normalization with a learned scale."""

    def build(self, input_shape: Any) -> None:
        self.g = self.add_weight(name="g", shape=(input_shape[-1],), initializer="ones")

    def call(self, x: Any, condition: Any = None) -> Any:
        y = self.g * x * tf.math.rsqrt(tf.reduce_mean(tf.square(x), -1, keepdims=True) + 1e-3)
        return y if condition is None else y + condition


class Heir(Mine):
    """A subclass that computes the same."""


class Changed(Mine):
    """A subclass that does not."""

    def call(self, x: Any) -> Any:
        return 2 * super().call(x)


@pytest.fixture(autouse=True)
def adapted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxnorm.frameworks._ADAPTERS", {})

    @onnxnorm.adapter(Mine)
    def mine(layer: Any, input_shape: Any) -> Formula:
        return Formula("RMSNormalization", axes=[-1], epsilon=1e-3, scale=layer.g)


X = np.random.default_rng(3).normal(size=(2, 6, 4)).astype(np.float32)


@pytest.mark.parametrize("layer_class", [Mine, Heir])
def test_adapted_layer_is_one_node(layer_class: type) -> None:
    model = randomized(functional((6, 4), layer_class(name="mine")))
    result = onnxnorm.convert(model)
    assert [(n.name, n.op_type) for n in norm_nodes(result.model)] == [("mine", "RMSNormalization")]
    (record,) = result.layers
    assert record.layer_class.endswith(layer_class.__name__)
    np.testing.assert_allclose(run(result.model, [X])[0], model(X).numpy(), atol=1e-5)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_adapted_layer_out_of_a_file(suffix: str, tmp_path: Path) -> None:
    model = randomized(functional((6, 4), Mine(name="mine")))
    model.save(tmp_path / f"model{suffix}")
    result = onnxnorm.convert(tmp_path / f"model{suffix}")
    assert [n.name for n in norm_nodes(result.model)] == ["mine"]
    np.testing.assert_allclose(run(result.model, [X])[0], model(X).numpy(), atol=1e-5)


def test_subclass_that_changes_an_adapted_layer_is_decomposed() -> None:
    with pytest.warns(UserWarning, match="'changed': Changed overrides call"):
        result = onnxnorm.convert(functional((6, 4), Changed(name="changed")))
    assert [record.lowering for record in result.layers] == ["decomposed"]


def test_argument_that_the_formula_does_not_know_decomposes_the_call() -> None:
    inputs = tf.keras.Input((6, 4))
    layer = Mine(name="mine")
    model = randomized(tf.keras.Model(inputs, layer(layer(inputs), condition=inputs)))
    with pytest.warns(UserWarning, match="'mine': called with condition"):
        result = onnxnorm.convert(model)
    (record,) = result.layers
    assert record.nodes == ("mine",)
    assert "condition" in record.reason
    np.testing.assert_allclose(run(result.model, [X])[0], model(X).numpy(), atol=1e-5)


def test_several_inputs_decompose_the_call() -> None:
    class Sum(L.Layer):
        def call(self, inputs: Any) -> Any:
            return inputs[0] + inputs[1]

    @onnxnorm.adapter(Sum)
    def wrong(layer: Any, input_shape: Any) -> Formula:
        return Formula("RMSNormalization", axes=[-1], epsilon=1e-3)

    a, b = tf.keras.Input((4,)), tf.keras.Input((4,))
    with pytest.warns(UserWarning, match="'sum': called with several inputs"):
        result = onnxnorm.convert(tf.keras.Model([a, b], Sum(name="sum")([a, b])))
    assert [record.lowering for record in result.layers] == ["decomposed"]


def test_failing_adapter_names_the_layer() -> None:
    @onnxnorm.adapter(Mine)
    def broken(layer: Any, input_shape: Any) -> Formula:
        return Formula("RMSNormalization", axes=[-1], epsilon=layer.gone)

    with pytest.raises(ConversionError, match=r"^layer 'mine': its adapter broken failed .*gone'$"):
        onnxnorm.convert(functional((6, 4), Mine(name="mine")))


def test_adapter_wants_a_class() -> None:
    with pytest.raises(TypeError, match="expected a layer class"):
        onnxnorm.adapter(lambda layer, input_shape: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", keras_hub.LAYERS)
def test_formula_of_keras_hub(path: str) -> None:
    module, _, name = path.rpartition(".")
    pytest.importorskip("keras_hub")
    layer = getattr(import_module(f"keras_hub.src.{module}"), name)(epsilon=0.1)
    layer.build((2, 3, 6))
    x = np.random.default_rng(5).normal(size=(2, 3, 6)).astype(np.float32)
    np.testing.assert_allclose(by_formula(randomized(layer), x), layer(x).numpy(), atol=1e-6)


def test_example_of_the_docs() -> None:
    _, _, rest = DOCS.read_text().partition("```python\n")
    example, _, _ = rest.partition("```")
    exec(example, {})


def test_docs_name_every_layer() -> None:
    from onnxnorm.frameworks import keras3, tf_keras, tfa

    text = DOCS.read_text()
    for module in (keras3, keras_hub, tf_keras, tfa):
        for table in (module.LAYERS, module.BATCH_LAYERS, module.WRAPPERS):
            for path in table:
                name = path.rpartition(".")[2]
                assert f"{name}`" in text, name


def test_own_method_on_the_layer_object_is_no_override() -> None:
    """Keras 2 leaves it there when it has saved a SavedModel."""
    layer = tf.keras.layers.LayerNormalization()
    object.__setattr__(layer, "call", layer.call)
    assert recognize(layer).overridden == ()  # type: ignore[union-attr] # known
    other = tf.keras.layers.LayerNormalization()
    for call in (other.call, lambda x: x):
        object.__setattr__(layer, "call", call)
        assert recognize(layer).overridden == ("call",)  # type: ignore[union-attr] # known
