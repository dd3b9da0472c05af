"""What `optimize` does to a model as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import onnxnorm
from onnxnorm import modelfile
from onnxnorm.graph import order, records
from onnxnorm.graph.fusion import fuse
from onnxnorm.graph.nodes import all_graphs, attributes_of
from onnxnorm.opset import DOMAIN
from tests.graph.fusion.graphs import assert_same, fused, operators, parsed

NORM = "[norm] v = NORM (x, s, b)\n"
LOOP = """
    n = Constant <value_int = 3> ()
    c = Cast <to = 9> (n)
    y, z = Loop (n, c, x) <body = step (int64 i, bool cond, float[N,6,8] h)
        => (bool go, float[N,6,8] next, float[N,6,8] scan) {
        go = Identity (cond)
        [norm] v = NORM (h, s, b)
        next = Min (v, limit)
        sum = Add (h, x)
        [other] w = NORM (sum, s, b)
        scan = Tanh (w)
    }>
"""


def nested() -> onnx.ModelProto:
    return parsed(LOOP, constants="float limit = {1}", outputs="float[N,6,8] y, float[T,N,6,8] z")


def custom_nodes(model: onnx.ModelProto) -> dict[str, dict[str, Any]]:
    nodes = [n for graph in all_graphs(model.graph) for n in graph.node if n.domain == DOMAIN]
    return {node.name: attributes_of(node) for node in nodes}


def test_bodies_of_loops() -> None:
    before = nested()
    after, fusions = fused(before)
    nodes = custom_nodes(after)
    assert list(fusions) == list(nodes) == ["norm", "other"]
    assert nodes["norm"]["activation_params"] == [-np.inf, 1.0]
    assert (nodes["other"]["activation"], nodes["other"]["residual_stage"]) == (b"Tanh", b"input")
    assert {tensor.name for tensor in after.graph.initializer} == {"s", "b"}
    assert_same(before, after)


def test_branches_that_use_one_name_for_two_values() -> None:
    before = parsed(
        NORM + "d = Cast <to = 9> (flag)\n y = If (d) <"
        "then_branch = t () => (float[N,6,8] p) { [one] q = NORM (v, s, b)\n p = Relu (q) },"
        "else_branch = e () => (float[N,6,8] p2) { [two] q = NORM (v, s, b)\n p2 = Tanh (q) }>",
        inputs="float[N,6,8] x, float flag",
    )
    after, _ = fused(before)
    activations = {name: a["activation"] for name, a in custom_nodes(after).items()}
    assert activations == {"norm": b"", "one": b"Relu", "two": b"Tanh"}
    assert_same(before, after)


def full_model() -> onnx.ModelProto:
    """A model with every field that is not the optimizer's business."""
    model = parsed(NORM + "r = Relu (v)\n y = user.block (r)")
    model.opset_import.append(onnx.helper.make_opsetid("user", 3))
    model.functions.append(
        onnx.parser.parse_function(
            '<domain: "user", opset_import: ["" : 18]> block (x) => (y) { y = Neg (x) }'
        )
    )
    model.producer_name, model.producer_version, model.domain = "p", "1", "d"
    model.model_version, model.doc_string = 7, "of the model"
    model.graph.doc_string = "of the graph"
    model.graph.node[0].doc_string = "of the node"
    model.graph.input[0].doc_string = "of the input"
    model.graph.initializer[0].doc_string = "of the tensor"
    model.metadata_props.add(key="key", value="value")
    model.training_info.add().algorithm.name = "training"
    for name in "vr":
        model.graph.value_info.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 6, 8], name)
        )
    annotation = model.graph.quantization_annotation.add(tensor_name="x")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s")
    return model


def test_everything_else_survives() -> None:
    before = full_model()
    kept = before.SerializeToString(deterministic=True)
    after = onnxnorm.optimize(before)
    assert before.SerializeToString(deterministic=True) == kept
    assert [f.name for f in after.functions] == ["block", "LayerNormalization"]
    assert [value.name for value in after.graph.value_info] == ["r"]
    assert operators(after) == "LayerNormalization block"
    assert after.graph.node[0].doc_string == "of the node"
    for model in (before, after):
        del model.functions[:], model.graph.node[:], model.graph.value_info[:]
    assert after == before


def test_a_model_without_our_nodes_comes_back_as_it_is() -> None:
    model = full_model()
    del model.graph.node[0]
    kept = model.SerializeToString(deterministic=True)
    assert onnxnorm.optimize(model) is model
    assert fuse(model) == ()
    assert model.SerializeToString(deterministic=True) == kept


def test_records_tell_what_became() -> None:
    model = full_model()
    records.write(
        model,
        [
            records.LayerRecord("norm", "keras.Layer", None, "custom", ("norm",)),
            records.LayerRecord("other", "keras.Layer", None, "unused", ()),
        ],
    )
    norm, other = records.read(onnxnorm.optimize(model))
    assert (norm.fused, norm.not_fused) == (("Relu",), ())
    assert (other.fused, other.not_fused) == ((), ())
    again, _ = records.read(onnxnorm.optimize(onnxnorm.optimize(model)))
    assert again == norm


def test_from_a_file_with_external_tensors(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(modelfile, "INLINE_LIMIT", 10)
    monkeypatch.setattr(modelfile, "_SMALL_TENSOR", 8)
    model = full_model()
    modelfile.save(model, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").exists()
    loaded = onnxnorm.optimize(tmp_path / "m.onnx")
    wanted = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for tensor in loaded.graph.initializer:
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), wanted[tensor.name])


def test_external_tensors_of_a_loaded_model_stay_external(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(modelfile, "INLINE_LIMIT", 10)
    monkeypatch.setattr(modelfile, "_SMALL_TENSOR", 8)
    modelfile.save(full_model(), tmp_path / "m.onnx")
    model = modelfile.load(tmp_path / "m.onnx", weights=False)
    assert all(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer)
    after = onnxnorm.optimize(model)
    assert operators(after) == "LayerNormalization block"
    assert list(after.graph.initializer) == list(model.graph.initializer)


def test_nodes_in_any_order() -> None:
    before = parsed("y = Relu (a)\n a = Add (v, h)\n h = Neg (x)\n [norm] v = NORM (x, s, b)")
    after, _ = fused(before)
    assert operators(after) == "Neg ResidualLayerNormalization"
    order.sort(before)
    assert_same(before, after)


@pytest.mark.parametrize("field", ["input", "output"])
def test_nodes_that_lack_inputs_or_outputs_are_refused(field: str) -> None:
    model = full_model()
    del getattr(model.graph.node[0], field)[:]
    model.graph.node[1].input[0] = "x"
    with pytest.raises(
        onnxnorm.ModelFileError, match=r"LayerNormalization .*'norm'.* (input|output)"
    ):
        onnxnorm.optimize(model)
    # A reader without outputs, of a domain that no checker knows.
    other = parsed(NORM + "y = Relu (v)")
    other.graph.node.append(onnx.helper.make_node("sink", ["v"], [], domain="user"))
    other.opset_import.append(onnx.helper.make_opsetid("user", 1))
    assert operators(onnxnorm.optimize(other)) == "LayerNormalization Relu sink"


def test_what_is_not_valid_is_refused(tmp_path: Any) -> None:
    model = full_model()
    model.graph.node[1].input[0] = "nowhere"
    onnx.save(model, tmp_path / "m.onnx")
    for source, name in ((model, "the model"), (tmp_path / "m.onnx", r"m\.onnx")):
        with pytest.raises(onnxnorm.ModelFileError, match=f"{name}: not valid ONNX"):
            onnxnorm.optimize(source)
