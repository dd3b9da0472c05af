"""Every network of the table: its operators, and the same numbers as Keras."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from onnxnorm.graph.nodes import all_graphs  # noqa: E402
from onnxnorm.opset import DOMAIN  # noqa: E402
from tests.conversion.keras_cases import (  # noqa: E402
    CASES,
    KERAS_2,
    SPECTRAL,
    Case,
    InTraining,
    functional,
    randomized,
)

L = tf.keras.layers
RECURRENT = [name for name in CASES if name == "bidirectional"]


def run(model: onnx.ModelProto, inputs: Sequence[Any], library: bool = False) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if library:
        onnxnorm.register(options)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    results: list[Any] = session.run(None, dict(zip(names, inputs, strict=True)))
    return results


def keras_outputs(model: Any, inputs: Sequence[Any]) -> list[Any]:
    given = list(inputs) if len(inputs) > 1 else inputs[0]
    return [np.asarray(y) for y in tf.nest.flatten(model(given, training=False))]


def norm_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [n for g in all_graphs(model.graph) for n in g.node if n.domain == DOMAIN]


def operators(model: onnx.ModelProto) -> str:
    return " ".join(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("name", CASES)
def test_table(name: str) -> None:
    case = CASES[name]
    model, inputs = case.model(), case.arrays()
    expected = keras_outputs(model, inputs)

    custom = onnxnorm.convert(model)
    nodes = norm_nodes(custom.model)
    assert len(nodes) == case.calls
    assert len({node.name for node in nodes}) == case.calls
    assert {f.name for f in custom.model.functions} == {node.op_type for node in nodes}
    made = [n for record in custom.layers for n in record.nodes if record.lowering == "custom"]
    assert sorted(made) == sorted(node.name for node in nodes)
    folded = [record for record in custom.layers if record.lowering in ("folded", "native")]
    assert len(folded) == case.folded
    for record in custom.layers:
        if record in folded:
            assert record.reason or record.nodes
            continue
        assert record.spec is not None
        assert all(node.startswith(record.name) for node in record.nodes)
        assert record.lowering == "custom"
    if KERAS_2 and case.custom:
        assert operators(custom.model) == case.custom

    native = onnxnorm.convert(model, lowering="native")
    assert not norm_nodes(native.model)
    assert not native.model.functions
    assert {o.domain for o in native.model.opset_import} <= {"", "ai.onnx.ml"}
    if KERAS_2 and case.native:
        assert operators(native.model) == case.native

    for converted in (custom.model, native.model, onnxnorm.optimize(custom.model)):
        assert onnxnorm.inspect(converted).problems == ()

    for form, library in ((custom, False), (custom, True), (native, False)):
        for y, wanted in zip(run(form.model, inputs, library), expected, strict=True):
            np.testing.assert_allclose(y, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    "name", [n for n, case in CASES.items() if case.norms and " rank " not in n]
)
def test_no_transpose_more_than_without_norms(name: str) -> None:
    case = CASES[name]
    with_norms = onnxnorm.convert(case.model()).model
    native = onnxnorm.convert(case.model(), lowering="native").model
    without = onnxnorm.convert(case.build(*(L.Activation("linear") for _ in case.norms))).model
    allowed = operators(without).split().count("Transpose")
    assert operators(with_norms).split().count("Transpose") <= allowed
    assert operators(native).split().count("Transpose") <= allowed


@pytest.mark.parametrize("opset", [15, 17, 21, 23, 24])
@pytest.mark.parametrize("lowering", ["custom", "native"])
@pytest.mark.parametrize("name", ["layer between convolutions", "mnist layer", *RECURRENT])
def test_opsets(name: str, opset: int, lowering: Any) -> None:
    # With some weights, norms of a few units in a row make 1e-5 of what inputs are rounded by.
    tf.keras.utils.set_random_seed(0)
    case = CASES[name]
    model, inputs = case.model(), case.arrays()
    result = onnxnorm.convert(model, lowering=lowering, opset=opset)
    assert {o.domain: o.version for o in result.model.opset_import}[""] == opset
    (y,), (wanted,) = run(result.model, inputs), keras_outputs(model, inputs)
    np.testing.assert_allclose(y, wanted, atol=1e-5)


def test_layers_are_put_back() -> None:
    model = functional((6, 4), L.LayerNormalization())
    x = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    before = np.asarray(model(x))
    onnxnorm.convert(model)
    assert all("call" not in vars(layer) for layer in model.layers)
    np.testing.assert_array_equal(np.asarray(model(x)), before)


def test_layers_are_put_back_after_a_failure() -> None:
    model = functional((6, 4), L.LayerNormalization())
    with pytest.raises(onnxnorm.ConversionError, match="takes 1 inputs"):
        onnxnorm.convert(model, input_signature=[tf.TensorSpec([None, 4])] * 2)
    assert all("call" not in vars(layer) for layer in model.layers)


def test_unused_layer_is_reported() -> None:
    model = Case(lambda *norms: _unused(*norms), (), ()).model()
    (record,) = onnxnorm.convert(model).layers
    assert record.nodes == ()
    assert record.reason


def _unused() -> Any:
    class Unused(tf.keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.norm = L.LayerNormalization()
            self.dense = L.Dense(3)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    model = Unused()
    model(np.zeros((1, 4), np.float32))
    return model


def test_layer_named_like_its_model() -> None:
    model = tf.keras.Sequential(
        [tf.keras.Input((6, 4)), L.Dense(5), L.LayerNormalization(name="same")], name="same"
    )
    (record,) = onnxnorm.convert(model, lowering="native").layers
    assert len(record.nodes) == 1


def test_subclass_that_overrides_call_is_decomposed_with_a_warning() -> None:
    class Doubled(L.LayerNormalization):
        def call(self, x: Any) -> Any:
            return 2 * super().call(x)

    model = randomized(functional((6, 4), Doubled(name="doubled")))
    with pytest.warns(UserWarning, match="'doubled': .* overrides call"):
        result = onnxnorm.convert(model)
    (record,) = result.layers
    assert record.lowering == "decomposed"
    assert "call" in record.reason
    x = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    np.testing.assert_allclose(run(result.model, [x])[0], np.asarray(model(x)), atol=1e-5)


def test_subclass_that_keeps_call_is_one_node() -> None:
    class Mine(L.LayerNormalization):
        pass

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        result = onnxnorm.convert(functional((6, 4), Mine(name="mine")))
    assert [n.name for n in norm_nodes(result.model)] == ["mine"]


def test_call_put_on_the_layer_object_is_decomposed() -> None:
    layer = L.LayerNormalization(name="patched")
    model = randomized(functional((6, 4), layer))
    object.__setattr__(layer, "call", lambda x: 2 * x)
    with pytest.warns(UserWarning, match="'patched': .* overrides call"):
        result = onnxnorm.convert(model)
    x = np.ones((2, 6, 4), np.float32)
    np.testing.assert_array_equal(run(result.model, [x])[0], 2 * x)
    assert "call" in vars(layer)


ELSEWHERE = L.LayerNormalization(name="elsewhere")


class Holder:
    """An object that is no layer."""

    def __init__(self) -> None:
        self.norm = L.LayerNormalization(name="held")


class Referring(L.Layer):
    """Calls layers that no framework finds below it."""

    def __init__(self) -> None:
        super().__init__()
        self.holder = Holder()
        inner = L.LayerNormalization(name="closed_over")
        self.function = partial(lambda x: inner(x))

    def call(self, x: Any) -> Any:
        return self.function(self.holder.norm(ELSEWHERE(x)))


@pytest.mark.filterwarnings("ignore")
def test_layers_that_keras_does_not_track() -> None:
    model = functional((6, 4), Referring())
    result = onnxnorm.convert(model)
    names = ["elsewhere", "held", "closed_over"]
    assert [n.name for n in norm_nodes(result.model)] == names
    assert [record.name for record in result.layers] == names


def test_layer_in_a_lambda() -> None:
    norm = L.LayerNormalization(name="inner", epsilon=0.1)
    norm.build((None, 6, 4))
    model = functional((6, 4), L.Lambda(lambda x: norm(x) + 1))
    result = onnxnorm.convert(model)
    assert [n.name for n in norm_nodes(result.model)] == ["inner"]
    x = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    np.testing.assert_allclose(run(result.model, [x])[0], np.asarray(model(x)), atol=1e-5)


def test_layer_of_no_known_class_that_normalizes_is_reported() -> None:
    class Own(L.Layer):
        def call(self, x: Any) -> Any:
            mean, variance = tf.nn.moments(x, [-1], keepdims=True)
            return (x - mean) / (tf.sqrt(variance) + 1e-3)

    model = functional((6, 4), L.LayerNormalization(name="known"), Own(name="own"), L.Softmax())
    first, second = onnxnorm.convert(model).layers
    assert (first.name, first.lowering) == ("known", "custom")
    assert (second.name, second.lowering) == ("own", "decomposed")
    assert second.layer_class.endswith("Own")
    assert "no known normalization" in second.reason


def test_layer_shared_between_models() -> None:
    norm = L.LayerNormalization(name="shared")
    first, second = functional((6, 4), norm), functional((6, 4), L.Dense(4), norm)
    for model in (first, second, first):
        assert [n.name for n in norm_nodes(onnxnorm.convert(model).model)] == ["shared"]


def test_weights_that_every_call_changes_are_refused() -> None:
    model = functional((6, 4), InTraining(SPECTRAL[-1](L.Dense(3), name="spectral")))
    with pytest.raises(onnxnorm.ConversionError, match="'spectral': called with training=True"):
        onnxnorm.convert(model)


def test_unsupported_operation_is_refused_with_its_layer() -> None:
    class Bessel(L.Layer):
        def call(self, x: Any) -> Any:
            return tf.math.bessel_i0e(x)

    with pytest.raises(onnxnorm.ConversionError, match=r"layer 'my_bessel'.*BesselI0e"):
        onnxnorm.convert(functional((6, 4), Bessel(name="my_bessel")))


@pytest.mark.skipif(not KERAS_2, reason="Keras 3 takes no mask into the statistics")
def test_mask_that_weighs_the_statistics_decomposes_the_layer() -> None:
    inputs = tf.keras.Input((6, 4))
    norm = L.GroupNormalization(2, name="masked")
    model = randomized(tf.keras.Model(inputs, norm(inputs, mask=inputs > 0)))
    with pytest.warns(UserWarning, match="layer 'masked': called with mask"):
        result = onnxnorm.convert(model)
    assert [(record.name, record.lowering) for record in result.layers] == [
        ("masked", "decomposed")
    ]
    x = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    np.testing.assert_allclose(run(result.model, [x])[0], np.asarray(model(x)), atol=1e-5)


def test_mask_without_effect_on_the_layer() -> None:
    model = randomized(functional((6, 4), L.Masking(), L.LayerNormalization()))
    x = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    x[:, 3] = 0
    result = onnxnorm.convert(model)
    np.testing.assert_allclose(run(result.model, [x])[0], np.asarray(model(x)), atol=1e-5)


def test_a_variable_that_the_model_assigns_and_reads_is_refused() -> None:
    class Counting(L.Layer):
        def build(self, shape: Any) -> None:
            self.count = self.add_weight(name="count", shape=(), initializer="zeros")

        def call(self, x: Any) -> Any:
            self.count.assign_add(1.0)
            return x * self.count

    with pytest.raises(onnxnorm.ConversionError, match=r"'counting'.*'.*count.*'.*no state"):
        onnxnorm.convert(functional((6, 4), Counting(name="counting")))


def test_a_variable_that_the_model_only_assigns_is_left_out() -> None:
    class Recording(L.Layer):
        def build(self, shape: Any) -> None:
            self.seen = self.add_weight(name="seen", shape=(), initializer="zeros")

        def call(self, x: Any) -> Any:
            self.seen.assign_add(tf.reduce_sum(x))
            return 2 * x

    (node,) = onnxnorm.convert(functional((6, 4), Recording())).model.graph.node
    assert node.op_type == "Mul"


def test_python_code_is_refused() -> None:
    class Python(L.Layer):
        def call(self, x: Any) -> Any:
            return tf.ensure_shape(tf.numpy_function(lambda v: v, [x], tf.float32), x.shape)

    with pytest.raises(onnxnorm.ConversionError, match="Python code"):
        onnxnorm.convert(functional((6, 4), Python()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"opset": 9}, "opset 9: from 15 to 2"),
        ({"opset": 99}, "opset 99: from 15 to 2"),
        ({"lowering": "fast"}, "lowering 'fast'"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(onnxnorm.ConversionError, match=message):
        onnxnorm.convert(functional((6, 4), L.LayerNormalization()), **arguments)


def test_threads_convert_one_model_at_once() -> None:
    case = CASES["layer between convolutions"]
    model, inputs = case.model(), case.arrays()
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: onnxnorm.convert(model), range(4)))
    for result in results:
        assert len(norm_nodes(result.model)) == 1
        np.testing.assert_allclose(
            run(result.model, inputs)[0], keras_outputs(model, inputs)[0], atol=1e-5
        )
