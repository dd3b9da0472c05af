"""Sessions optimize what they load, and load what they cannot optimize."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxnorm
from onnxnorm import modelfile, provider_choice
from onnxnorm.graph import order
from onnxnorm.graph.fusion import in_memory
from onnxnorm.graph.nodes import all_graphs
from tests.graph.fusion.graphs import evaluate, parsed

MODEL = parsed(
    "e = Add (x, big)\n [norm] v = NORM (e, s, b)\n a = Add (v, x)\n y = Relu (a)",
    constants=f"float[6,8] big = {{{', '.join(['0.25'] * 48)}}}",
)
X = np.random.default_rng(0).normal(size=(2, 6, 8)).astype(np.float32)
WANTED = evaluate(MODEL, {"x": X})["y"]


@pytest.fixture(autouse=True)
def _no_warning() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    modelfile.save(MODEL, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def external(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(modelfile, "INLINE_LIMIT", 10)
    monkeypatch.setattr(modelfile, "_SMALL_TENSOR", 64)
    (tmp_path / "folder").mkdir()
    modelfile.save(MODEL, tmp_path / "folder" / "m.onnx")
    assert (tmp_path / "folder" / "m.onnx.data").exists()
    return tmp_path / "folder" / "m.onnx"


def nodes_run(tmp_path: Path, source: Any, **arguments: Any) -> list[str]:
    """The operators that ONNX Runtime runs, after a check of what they compute."""
    options = arguments.pop("sess_options", None) or onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "as_run.onnx")
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxnorm.InferenceSession(source, sess_options=options, **arguments)
    np.testing.assert_allclose(session.run(None, {"x": X})[0], WANTED, atol=1e-5)
    model = onnx.load(options.optimized_model_filepath, load_external_data=False)
    return [node.op_type for graph in all_graphs(model.graph) for node in graph.node]


FUSED = ["Add", "ResidualLayerNormalization"]
AS_IT_IS = ["Add", "LayerNormalization", "Add", "Relu"]


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "bytearray", "memoryview", "proto"])
def test_every_source(kind: str, path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    source = {
        "path": path,
        "text": str(path),
        "bytes": content,
        "bytearray": bytearray(content),
        "memoryview": memoryview(content),
        "proto": MODEL,
    }[kind]
    assert nodes_run(tmp_path, source) == FUSED
    assert nodes_run(tmp_path, source, optimize=False) == AS_IT_IS


def test_the_arguments_are_the_runtimes_own(path: Path) -> None:
    own = list(inspect.signature(onnxruntime.InferenceSession.__init__).parameters)
    ours = inspect.signature(onnxnorm.InferenceSession.__init__).parameters
    assert [n for n, p in ours.items() if p.kind is not p.KEYWORD_ONLY] == own
    options, cpu = onnxruntime.SessionOptions(), "CPUExecutionProvider"
    for arguments, settings in (
        ((path, options), {}),
        ((path, options, [cpu]), {}),
        ((path, None, [cpu], [{"arena_extend_strategy": "kSameAsRequested"}]), {}),
        ((path, None, [(cpu, {"arena_extend_strategy": "kSameAsRequested"})]), {}),
        ((path,), {"path_or_bytes": None, "provider_options": [{}], "providers": [cpu]}),
        ((path,), {"enable_fallback": 0, "disabled_optimizers": ["ConstantFolding"]}),
    ):
        settings.pop("path_or_bytes", None)
        session = onnxnorm.InferenceSession(*arguments, **settings)
        np.testing.assert_allclose(session.run(None, {"x": X})[0], WANTED, atol=1e-5)
    assert onnxnorm.InferenceSession(path, options).get_session_options() is not None
    session.disable_fallback()
    session.enable_fallback()
    session.set_providers([cpu])
    np.testing.assert_allclose(session.run(None, {"x": X})[0], WANTED, atol=1e-5)


def test_external_tensors(external: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = onnxruntime.SessionOptions()
    assert nodes_run(tmp_path, external, sess_options=options) == FUSED
    # The options are as before: they serve a model elsewhere.
    elsewhere = tmp_path / "elsewhere"
    external.parent.rename(elsewhere)
    assert nodes_run(tmp_path, elsewhere / "m.onnx", sess_options=options) == FUSED
    monkeypatch.chdir(elsewhere)
    assert nodes_run(tmp_path, "m.onnx") == FUSED
    assert nodes_run(tmp_path, Path("m.onnx").read_bytes()) == FUSED


def test_external_tensors_in_an_older_runtime(
    external: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxnorm.runtime._installed", lambda: (1, 20))
    assert nodes_run(tmp_path, external) == AS_IT_IS


@pytest.mark.skipif(provider_choice.has_cuda_device(), reason="the nodes run on the device")
@pytest.mark.parametrize(
    "providers",
    [
        None,
        [],
        ["CPUExecutionProvider"],
        [("CPUExecutionProvider", {})],
        ["CPUExecutionProvider", "CUDAExecutionProvider"],
        ["CUDAExecutionProvider", "CPUExecutionProvider"],
        [("CUDAExecutionProvider", {"device_id": 0}), "CPUExecutionProvider"],
    ],
)
def test_whatever_is_asked_for(path: Path, tmp_path: Path, providers: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a device that is not there
        assert nodes_run(tmp_path, path, providers=providers) == FUSED


def test_a_device_without_library_gets_the_bodies(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_choice, "library", lambda *_: None)
    nodes = nodes_run(tmp_path, path)
    assert "LayerNormalization" not in nodes
    assert "Relu" in nodes


def test_a_fault_of_the_optimizer_is_told_and_the_file_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("fault")

    monkeypatch.setattr(in_memory, "fuse", broken)
    with pytest.warns(RuntimeWarning, match=r"m\.onnx: runs as it is.*KeyError: 'fault'"):
        assert nodes_run(tmp_path, path) == AS_IT_IS


def test_an_optimized_model_that_does_not_load_is_told_and_the_file_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unloadable = in_memory.InMemory(b"no model", None)
    monkeypatch.setattr(in_memory, "optimized", lambda *_: unloadable)
    with pytest.warns(RuntimeWarning, match="runs as it is"):
        assert nodes_run(tmp_path, path) == AS_IT_IS


def test_nodes_in_any_order(tmp_path: Path) -> None:
    """As ONNX Runtime's float16 converter leaves them; in a branch, ONNX Runtime refuses them."""
    backwards = onnx.ModelProto.FromString(MODEL.SerializeToString())
    del backwards.graph.node[:]
    backwards.graph.node.extend(reversed(MODEL.graph.node))
    assert nodes_run(tmp_path, backwards) == FUSED
    branches = parsed(
        "c = Constant <value = bool {1}> ()\n y = If (c) <"
        "then_branch = t () => (float[N,6,8] p) { p = Exp (q)\n [norm] q = NORM (z, s, b) },"
        "else_branch = e () => (float[N,6,8] o) { o = Identity (x) }>\n z = Neg (x)"
    )
    (y,) = onnxnorm.InferenceSession(branches).run(None, {"x": X})
    order.sort(branches)
    np.testing.assert_allclose(y, evaluate(branches, {"x": X})["y"], rtol=1e-5)


def test_a_cycle_is_one_line_that_names_a_node(tmp_path: Path) -> None:
    cycle = parsed("y = Add (v, a)\n a = Neg (y)\n [norm] v = NORM (x, s, b)")
    onnx.save(cycle, tmp_path / "m.onnx")
    with pytest.raises(
        onnxnorm.ModelFileError, match=r"m\.onnx: .* the nodes form a cycle: .* '[ay]'"
    ):
        onnxnorm.InferenceSession(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "content",
    [b"", b"encrypted \xff\xff\xff\xff\xff\xff\xff\xff\xff", MODEL.SerializeToString()[:-40]],
    ids=["empty", "encrypted", "truncated"],
)
def test_what_cannot_be_loaded_is_one_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    for source, name in ((tmp_path / "m.onnx", "m.onnx"), (content, "model")):
        with pytest.raises(onnxnorm.ModelFileError, match=rf"{name}: .*ONNX file"):
            onnxnorm.InferenceSession(source)


def test_what_is_too_large_for_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxnorm.runtime.PROTOBUF_LIMIT", 100)
    with pytest.raises(onnxnorm.ModelFileError, match=r"more than 2 GB.*modelfile\.save"):
        onnxnorm.InferenceSession(MODEL)


def test_files_in_the_runtimes_own_format_pass(path: Path, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    onnxnorm.register(options)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    session = onnxnorm.InferenceSession(tmp_path / "m.ort")
    np.testing.assert_allclose(session.run(None, {"x": X})[0], WANTED, atol=1e-5)


def test_a_model_without_our_nodes_is_not_read(tmp_path: Path, monkeypatch: Any) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 18]> '
        "graph (float[N] x) => (float[N] y) { y = Neg (x) }"
    )
    onnx.save(model, tmp_path / "m.onnx")
    monkeypatch.setattr(in_memory, "load", None)
    onnxnorm.InferenceSession(tmp_path / "m.onnx")
    onnxnorm.InferenceSession(model)


def test_a_large_file_is_looked_at_in_passing(tmp_path: Path) -> None:
    """The list of operator sets is found behind a graph of any size without reading the graph."""
    opset = onnx.helper.make_opsetid("onnxnorm", 1).SerializeToString()
    graph = bytes([7 << 3 | 2]) + b"\x80\x80\x80\x80\x08"  # 2 GB follow
    with (tmp_path / "m.onnx").open("wb") as stream:
        stream.write(b"\x08\x09" + graph)
        stream.seek(1 << 31, 1)
        stream.write(bytes([8 << 3 | 2, len(opset)]) + opset)
    with (tmp_path / "m.onnx").open("rb") as stream:
        assert modelfile.header(stream).domains == {"onnxnorm"}
