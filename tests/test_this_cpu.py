"""Models for this kind of CPU, in which norms work in ONNX Runtime's blocks of channels."""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import numpy_helper

import onnxnorm
from onnxnorm import cpu_kind, modelfile, provider_choice
from onnxnorm.graph import cpu_target, records
from onnxnorm.graph.cpu_target import CpuTarget
from onnxnorm.graph.nodes import all_graphs, attributes_of
from onnxnorm.graph.records import LayerRecord
from tests.graph.fusion.evaluation import evaluate

BLOCK = cpu_kind.here().channel_block
pytestmark = pytest.mark.skipif(BLOCK == 1, reason="ONNX Runtime has no blocks on this CPU")

CONV = "Conv <pads = [1, 1, 1, 1]>"
IN = "onnxnorm.InstanceNormalization <axis = 1, epsilon = 0.001>"
# Every number of channels here is one of whole blocks of 8 and of 16, but for 20.
C = 64


def gn(groups: int, axis: int = 1) -> str:
    return f"onnxnorm.GroupNormalization <axis = {axis}, num_groups = {groups}, epsilon = 0.001>"


def network(
    statements: str,
    inputs: str = "float[N,3,H,W] x",
    outputs: str = "float[N,64,H,W] y",
    channels: int = C,
    opset: int = 18,
) -> onnx.ModelProto:
    """A model; ``w3`` and ``w`` are weights from 3 and from ``channels`` channels, ``s``, ``b``."""
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}, "onnxnorm" : 1]> '
        f"graph ({inputs}) => ({outputs}) {{\n{statements}\n}}"
    )
    rng = np.random.default_rng(1)
    shapes = {
        "w3": (channels, 3, 3, 3),
        "w": (channels, channels, 3, 3),
        "s": (channels,),
        "b": (channels,),
    }
    for name, shape in shapes.items():
        values = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    return model


def feeds(model: onnx.ModelProto, batch: int = 2, height: int = 7, width: int = 9) -> Any:
    rng = np.random.default_rng(2)
    unknown = {"N": batch, "H": height, "W": width}
    result: dict[str, Any] = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [d.dim_value or unknown[d.dim_param] for d in kind.shape.dim]
        is_bool = kind.elem_type == onnx.TensorProto.BOOL
        result[value.name] = (
            np.full(shape, True) if is_bool else rng.normal(size=shape).astype(np.float32)
        )
    return result


def operators(model: onnx.ModelProto) -> Counter[str]:
    """The nodes of a model; norms in blocks have a name of their own."""
    return Counter(
        f"blocked {node.op_type}" if "channel_block" in attributes_of(node) else node.op_type
        for graph in all_graphs(model.graph)
        for node in graph.node
    )


def checked(model: onnx.ModelProto, **sizes: int) -> onnx.ModelProto:
    """The model for this CPU, after a check of what it computes."""
    result = onnxnorm.optimize(model, this_cpu=True)
    assert list(result.graph.input) == list(model.graph.input)
    names = [value.name for value in model.graph.output]
    assert [value.name for value in result.graph.output] == names
    session = onnxnorm.InferenceSession(result)
    for batch in (sizes.get("batch", 2), 1, 0):
        given = feeds(model, **{**sizes, "batch": batch})
        wanted = evaluate(model, given) if batch else {}
        for name, y in zip(names, session.run(None, given), strict=True):
            if batch:
                np.testing.assert_allclose(y, wanted[name], rtol=1e-4, atol=2e-5)
            else:
                assert y.size == 0
    return result


def test_layer_records_stay_though_onnxruntime_drops_those_of_nodes() -> None:
    model = network(f"c = {CONV} (x, w3)\n [n] n = {gn(4)} (c, s, b)\n y = {CONV} (n, w)")
    record = LayerRecord("norm", "keras.Norm", None, "custom", ("n",))
    records.write(model, [record])
    optimized = onnxnorm.optimize(model, this_cpu=True)
    assert "blocked GroupNormalization" in operators(optimized)
    assert [replace(found, not_fused=()) for found in records.read(optimized)] == [record]


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16, 32, 64])
@pytest.mark.parametrize("sizes", [{}, {"height": 8, "width": 5, "batch": 3}])
def test_a_norm_between_convolutions(depth: int, sizes: dict[str, int]) -> None:
    model = network(f"c = {CONV} (x, w3)\n n = {gn(C // depth)} (c, s, b)\n y = {CONV} (n, w)")
    found = operators(checked(model, **sizes))
    assert found == {"Conv": 2, "blocked GroupNormalization": 1, "ReorderOutput": 1}


def test_static_sizes() -> None:
    model = network(
        f"c = {CONV} (x, w3)\n n = {gn(32)} (c, s, b)\n y = {CONV} (n, w)",
        inputs="float[2,3,10,11] x",
        outputs="float[2,64,10,11] y",
    )
    session = onnxnorm.InferenceSession(onnxnorm.optimize(model, this_cpu=True))
    given = feeds(model)
    np.testing.assert_allclose(
        session.run(None, given)[0], evaluate(model, given)["y"], rtol=1e-4, atol=2e-5
    )


RESIDUAL = f"""
    c0 = {CONV} (x, w3)
    n0 = {IN} (c0, s, b)
    r0 = Relu (n0)
    c1 = {CONV} (r0, w)
    n1 = {IN} (c1, s, b)
    a = Add (n1, r0)
    r1 = Relu (a)
    y = {CONV} (r1, w)"""

SHORTCUT = f"""
    c0 = {CONV} (x, w3)
    c1 = {CONV} (c0, w)
    c2 = {CONV} (c0, w)
    n1 = {gn(16)} (c1, s, b)
    n2 = {gn(2)} (c2, s, b)
    a = Add (n1, n2)
    r1 = Elu <alpha = 0.5> (a)
    p = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (r1)
    y = {CONV} (p, w)"""


@pytest.mark.parametrize("statements", [RESIDUAL, SHORTCUT])
def test_residuals_and_activations(statements: str) -> None:
    found = operators(checked(network(statements)))
    assert (found["ReorderInput"], found["ReorderOutput"]) == (0, 1)
    assert "Add" not in found


def test_what_stands_between_norms_works_on_blocks_too() -> None:
    model = network(
        f"""
        c = {CONV} (x, w3)
        n1 = {gn(16)} (c, s, b)
        r1 = Relu (n1)
        n2 = {gn(8)} (r1, s, b)
        t = Tanh (n2)
        m = Mul (n2, t)
        d = Sub (m, r1)
        l = Clip (d)
        y = {CONV} (l, w)"""
    )
    found = operators(checked(model))
    assert (found["ReorderInput"], found["ReorderOutput"]) == (0, 1)


def test_what_is_repeated_does_not() -> None:
    model = network(
        f"""
        c = {CONV} (x, w3)
        n = {gn(16)} (c, s, b)
        m = GlobalMaxPool (c)
        g = Sigmoid (m)
        e = Mul (n, g)
        y = {CONV} (e, w)"""
    )
    found = operators(checked(model))
    assert (found["Mul"], found["ReorderInput"]) == (1, 1)


def test_a_value_that_is_an_output_too() -> None:
    model = network(
        f"c = {CONV} (x, w3)\n n = {gn(16)} (c, s, b)\n k = {CONV} (n, w)\n y = Relu (k)",
        outputs="float[N,64,H,W] y, float[N,64,H,W] n",
    )
    found = operators(checked(model))
    assert (found["ReorderInput"], found["ReorderOutput"]) == (0, 2)


def test_a_reader_with_channels_last() -> None:
    model = network(
        f"c = {CONV} (x, w3)\n n = {gn(16)} (c, s, b)\n y = Transpose <perm = [0, 2, 3, 1]> (n)",
        outputs="float[N,H,W,64] y",
    )
    found = operators(checked(model))
    assert found == {"Conv": 1, "blocked GroupNormalization": 1, "ReorderOutput": 1}


@pytest.mark.parametrize("axis", [3, -1])
def test_a_norm_with_channels_last(axis: int) -> None:
    model = network(
        f"""
        c = {CONV} (x, w3)
        t = Transpose <perm = [0, 2, 3, 1]> (c)
        n = {gn(16, axis)} (t, s, b)
        u = Transpose <perm = [0, 3, 1, 2]> (n)
        y = {CONV} (u, w)"""
    )
    found = operators(checked(model))
    assert found == {"Conv": 2, "blocked GroupNormalization": 1, "ReorderOutput": 1}


@pytest.mark.parametrize(
    ("channels", "groups"), [(20, 4), (48, 4), (96, 8)], ids=["no blocks", "12", "12 of 96"]
)
def test_groups_that_do_not_fit_stay(channels: int, groups: int) -> None:
    model = network(
        f"c = {CONV} (x, w3)\n n = {gn(groups)} (c, s, b)\n y = {CONV} (n, w)",
        outputs=f"float[N,{channels},H,W] y",
        channels=channels,
    )
    found = operators(checked(model))
    assert found["GroupNormalization"] == 1


def test_norms_over_other_axes_stay() -> None:
    layer = "onnxnorm.LayerNormalization <axes = [3], epsilon = 0.001>"
    model = network(
        f"""
        c = {CONV} (x, w3)
        n = {IN} (c, s, b)
        t = Transpose <perm = [0, 2, 3, 1]> (n)
        l = {layer} (t, s, b)
        u = Transpose <perm = [0, 3, 1, 2]> (l)
        y = {CONV} (u, w)"""
    )
    found = operators(checked(model))
    assert found["LayerNormalization"] == found["blocked InstanceNormalization"] == 1


def test_subgraphs() -> None:
    model = network(
        f"""
        y = If (choose) <
            then_branch = one () => (float[N,64,H,W] p) {{
                c = {CONV} (x, own_w3)
                n = {gn(16)} (c, own_s, own_b)
                p = {CONV} (n, own_w)
            }},
            else_branch = other () => (float[N,64,H,W] q) {{ q = {CONV} (x, w3) }}
        >""",
        inputs="float[N,3,H,W] x, bool choose",
    )
    # ONNX Runtime blocks convolutions whose weights lie in the same graph.
    branch = model.graph.node[0].attribute[0].g
    branch.initializer.extend(model.graph.initializer)
    for tensor in branch.initializer:
        tensor.name = f"own_{tensor.name}"
    found = operators(checked(model))
    assert found["blocked GroupNormalization"] == 1
    assert found["ReorderInput"] == 0


@pytest.mark.parametrize(
    "statements", [f"y = {IN} (x, s, b)", f"n = {IN} (x, s, b)\n y = {CONV} (n, w)", "y = Neg (x)"]
)
def test_a_model_without_such_norms_stays_as_optimized(statements: str) -> None:
    model = network(statements, inputs="float[N,64,H,W] x")
    assert checked(model) == onnxnorm.optimize(model)


MODEL = network(f"c = {CONV} (x, w3)\n [norm] n = {gn(16)} (c, s, b)\n y = {CONV} (n, w)")
GIVEN = feeds(MODEL)
WANTED = evaluate(MODEL, GIVEN)["y"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    modelfile.save(onnxnorm.optimize(MODEL, this_cpu=True), tmp_path / "cpu.onnx")
    return tmp_path / "cpu.onnx"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> CpuTarget:
    """Now this is another kind of CPU."""
    target = CpuTarget(24 - BLOCK, onnxruntime.__version__)
    monkeypatch.setattr(cpu_kind, "here", lambda: target)
    return target


def test_files_with_external_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelfile, "INLINE_LIMIT", 10)
    modelfile.save(onnxnorm.optimize(MODEL, this_cpu=True), tmp_path / "cpu.onnx")
    assert (tmp_path / "cpu.onnx.data").exists()
    session = onnxnorm.InferenceSession(tmp_path / "cpu.onnx")
    np.testing.assert_allclose(session.run(None, GIVEN)[0], WANTED, rtol=1e-4, atol=2e-5)


def test_where_there_is_a_device_too_it_runs_on_the_cpu(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(provider_choice, "default", lambda: providers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session = onnxnorm.InferenceSession(path)
    assert session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"])
def test_onnxruntime_itself_loads_it(path: Path, level: str) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    onnxnorm.register(options)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, GIVEN)[0], WANTED, rtol=1e-4, atol=2e-5)


def test_onnxruntime_itself_refuses_other_blocks(path: Path) -> None:
    model = modelfile.load(path)
    (block,) = (
        attribute
        for node in model.graph.node
        for attribute in node.attribute
        if attribute.name == "channel_block"
    )
    block.i = 24 - BLOCK
    options = onnxruntime.SessionOptions()
    onnxnorm.register(options)
    with pytest.raises(Exception, match=r"node 'norm': channel_block is .*another kind of CPU"):
        onnxruntime.InferenceSession(model.SerializeToString(), options)


@pytest.mark.parametrize("as_bytes", [False, True])
def test_another_kind_of_cpu_is_refused(path: Path, elsewhere: CpuTarget, as_bytes: bool) -> None:
    source, name = (path.read_bytes(), "model") if as_bytes else (path, str(path))
    with pytest.raises(onnxnorm.ModelFileError) as error:
        onnxnorm.InferenceSession(source)
    assert str(error.value) == (
        f"{name}: optimized for CPUs with blocks of {BLOCK} channels and onnxruntime "
        f"{onnxruntime.__version__}, here are {elsewhere}: run 'onnxnorm optimize --this-cpu' "
        "here, on the file that it was made of"
    )


def test_another_release_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_kind, "here", lambda: CpuTarget(BLOCK, "1.99.0"))
    with pytest.raises(onnxnorm.ModelFileError, match=r"here are .* onnxruntime 1\.99\.0"):
        onnxnorm.InferenceSession(path)


def test_what_was_made_for_a_cpu_is_not_made_again(path: Path) -> None:
    with pytest.raises(onnxnorm.ModelFileError, match="is already optimized for CPUs with blocks"):
        onnxnorm.optimize(path, this_cpu=True)
    assert onnxnorm.optimize(path) == modelfile.load(path)


def test_metadata_that_tell_of_no_cpu(path: Path, tmp_path: Path) -> None:
    model = modelfile.load(path)
    for entry in model.metadata_props:
        if entry.key == cpu_target.METADATA_KEY:
            entry.value = json.dumps({"channel_block": "many"})
    damaged = tmp_path / "damaged.onnx"
    modelfile.save(model, damaged)
    told = r"damaged\.onnx: the metadata 'onnxnorm\.cpu' tell of no kind of CPU"
    with pytest.raises(onnxnorm.ModelFileError, match=told):
        onnxnorm.InferenceSession(damaged)
    with pytest.raises(onnxnorm.ModelFileError, match=told):
        onnxnorm.optimize(damaged, this_cpu=True)
    (problem,) = onnxnorm.inspect(damaged).problems
    assert re.search(told, problem)


def test_inspect_tells_of_the_cpu(path: Path) -> None:
    found = onnxnorm.inspect(path)
    assert found.cpu == cpu_kind.here()
    (node,) = found.nodes
    assert node.attributes["channel_block"] == BLOCK
    assert onnxnorm.inspect(MODEL).cpu is None


def test_a_model_that_onnxruntime_cannot_load_is_one_error() -> None:
    model = network(f"c = com.example.Unknown (x)\n y = {IN} (c, s, b)")
    model.opset_import.add(domain="com.example", version=1)
    with pytest.raises(onnxnorm.ModelFileError, match="the model: ONNX Runtime cannot load it"):
        onnxnorm.optimize(model, this_cpu=True)
