"""Work is bounded: what asks for too much is one clear line, before the work begins."""

from __future__ import annotations

import io
import itertools
import json
import os
import socket
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxnorm import modelfile
from onnxnorm.errors import ModelFileError, OnnxNormError, VerificationError
from onnxnorm.graph import records
from onnxnorm.graph.fusion import optimize
from onnxnorm.graph.inspection import inspect
from onnxnorm.graph.nodes import keep_only
from onnxnorm.graph.records import LayerRecord
from onnxnorm.parity.inputs import InputSpec, draw, named

OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("f", 1)]


def model_of(nodes: list[onnx.NodeProto], *functions: onnx.FunctionProto) -> onnx.ModelProto:
    row = [TensorProto.FLOAT, [None, 4]]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", *row)],
        [helper.make_tensor_value_info("y", *row)],
    )
    return helper.make_model(graph, opset_imports=OPSETS, functions=list(functions), ir_version=9)


def call(name: str, given: str = "x", made: str = "y") -> onnx.NodeProto:
    return helper.make_node(name, [given], [made], domain="f")


def function(name: str, *nodes: onnx.NodeProto) -> onnx.FunctionProto:
    return helper.make_function("f", name, ["a"], ["b"], list(nodes), OPSETS)


def in_a_row(name: str, *called: str) -> onnx.FunctionProto:
    names = ["a", *(f"v{place}" for place in range(1, len(called))), "b"]
    nodes = [call(*each) for each in zip(called, names, names[1:], strict=False)]
    return function(name, *nodes)


LEAF = function("leaf", helper.make_node("Relu", ["a"], ["b"]))


def doubling(levels: int) -> onnx.ModelProto:
    names = ["leaf", *(f"f{level}" for level in range(levels))]
    others = [in_a_row(new, old, old) for old, new in itertools.pairwise(names)]
    return model_of([call(names[-1])], LEAF, *others)


def nested(levels: int) -> onnx.ModelProto:
    names = ["leaf", *(f"f{level}" for level in range(levels))]
    others = [in_a_row(new, old) for old, new in itertools.pairwise(names)]
    return model_of([call(names[-1])], LEAF, *others)


def reference() -> onnx.NodeProto:
    node = helper.make_node("LeakyRelu", ["x"], ["y"], name="leaky")
    node.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    return node


def typed(kind: int) -> onnx.NodeProto:
    """An attribute of a type that Python does not let one set."""
    node = helper.make_node("Relu", ["x"], ["y"], name="typed")
    node.attribute.add(name="a", i=1).MergeFromString(b"\xa0\x01" + bytes([kind]))
    return node


def branch(*nodes: onnx.NodeProto) -> onnx.NodeProto:
    body = helper.make_graph(
        list(nodes), "b", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    )
    return helper.make_node("If", ["x"], ["z"], then_branch=body, else_branch=body)


def with_tensor(**fields: Any) -> onnx.ModelProto:
    model = model_of([helper.make_node("Add", ["x", "w"], ["y"])])
    model.graph.initializer.append(TensorProto(name="w", **fields))
    return model


FLOAT = TensorProto.FLOAT
MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "doubling": (lambda: doubling(25), "stand for 100663294 nodes, and at most 50000"),
    "doubling on and on": (lambda: doubling(90), "stand for over 10^9 nodes"),
    "not called": (
        lambda: model_of([], *doubling(25).functions),
        "its functions stand for 100663294 nodes",
    ),
    "in a branch": (
        lambda: model_of([branch(call("f24"))], *doubling(25).functions),
        "its functions stand for",
    ),
    "deep": (lambda: nested(100), "more than 100 deep"),
    "very deep": (lambda: nested(5000), "more than 100 deep"),
    "itself": (lambda: model_of([call("r")], in_a_row("r", "r")), "function 'f::r' calls itself"),
    "in a circle": (
        lambda: model_of([], in_a_row("a", "b"), in_a_row("b", "c"), in_a_row("c", "a")),
        "calls itself",
    ),
    "itself in a branch": (
        lambda: model_of([], function("r", branch(call("r")))),
        "function 'f::r' calls itself",
    ),
    "twice": (lambda: model_of([call("leaf")], LEAF, LEAF), "function 'f::leaf' is there twice"),
    "reference": (lambda: model_of([reference()]), "node 'leaky' (LeakyRelu): attribute 'alpha'"),
    "no type": (lambda: model_of([typed(0)]), "node 'typed' (Relu): attribute 'a' has type 0"),
    "unheard-of type": (lambda: model_of([branch(typed(77))]), "attribute 'a' has type"),
    "reference in a branch": (lambda: model_of([branch(reference())]), "refers to 'slope'"),
    "negative": (
        lambda: with_tensor(dims=[4, -1], data_type=FLOAT, raw_data=b"1234"),
        "tensor 'w' has shape [4, -1]",
    ),
    "strings": (
        lambda: with_tensor(dims=[-1], data_type=TensorProto.STRING),
        "tensor 'w' has shape [-1]",
    ),
    "external": (
        lambda: with_tensor(dims=[-1], data_type=FLOAT, data_location=TensorProto.EXTERNAL),
        "tensor 'w' has shape [-1]",
    ),
}
TENSORS = {
    "huge and empty": ({"dims": [10**18], "data_type": FLOAT}, "0 numbers, and 10"),
    "huge raw": (
        {"dims": [10**18] * 3, "data_type": FLOAT, "raw_data": b"1234"},
        "4 bytes of data",
    ),
    "short": ({"dims": [2], "data_type": FLOAT, "float_data": [1]}, "1 numbers, and 2"),
    "long": ({"dims": [2], "data_type": TensorProto.INT64, "raw_data": bytes(24)}, "24 bytes"),
    "other field": (
        {"dims": [2], "data_type": TensorProto.BOOL, "int32_data": [1] * 3},
        "3 numbers",
    ),
    "complex": ({"dims": [2], "data_type": TensorProto.COMPLEX64, "float_data": [1] * 2}, "and 4"),
    "packed": ({"dims": [5], "data_type": TensorProto.UINT4, "raw_data": bytes(5)}, "and 3 by"),
}


@pytest.mark.parametrize("read", [modelfile.load, inspect, optimize])
@pytest.mark.parametrize(("model", "told"), MODELS.values(), ids=MODELS)
def test_models(
    tmp_path: Path, read: Callable[[Path], object], model: Callable[[], onnx.ModelProto], told: str
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model().SerializeToString())
    with pytest.raises(ModelFileError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert told in str(caught.value)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(("model", "told"), MODELS.values(), ids=MODELS)
def test_models_for_the_runtime(
    tmp_path: Path, in_memory: bool, model: Callable[[], onnx.ModelProto], told: str
) -> None:
    runtime = pytest.importorskip("onnxnorm.runtime")
    path = tmp_path / "m.onnx"
    content = model().SerializeToString()
    path.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        runtime.InferenceSession(content if in_memory else path)
    assert told in str(caught.value)


@pytest.mark.parametrize(("fields", "told"), TENSORS.values(), ids=TENSORS)
def test_tensors(tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(with_tensor(**fields).SerializeToString())
    with pytest.raises(ModelFileError, match=r"m\.onnx: tensor 'w' has ") as caught:
        modelfile.load(path)
    assert told in str(caught.value)
    inspect(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"dims": [0, 10**9], "data_type": FLOAT},
        {"dims": [], "data_type": FLOAT, "float_data": [1]},
        {"dims": [2], "data_type": TensorProto.FLOAT16, "int32_data": [1, 2]},
        {"dims": [2], "data_type": TensorProto.UINT32, "uint64_data": [1, 2]},
        {"dims": [2], "data_type": TensorProto.COMPLEX128, "double_data": [1] * 4},
        {"dims": [5], "data_type": TensorProto.INT4, "int32_data": [1] * 3},
        {"dims": [2], "data_type": TensorProto.STRING, "string_data": [b"a", b"b"]},
        {"dims": [4], "data_type": FLOAT, "raw_data": bytes(16)},
    ],
)
def test_tensors_as_they_should_be(tmp_path: Path, fields: dict[str, Any]) -> None:
    model = with_tensor(**fields)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert modelfile.load(tmp_path / "m.onnx") == model


def test_functions_as_they_should_be(tmp_path: Path) -> None:
    long = function("long", *[helper.make_node("Relu", ["a"], ["b"])] * 60)
    for model in (doubling(13), nested(99), model_of([call("long")] * 2000, long)):
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        assert modelfile.load(tmp_path / "m.onnx") == model


def test_a_norm_of_a_function_shows_what_it_refers_to(tmp_path: Path) -> None:
    node = helper.make_node("LayerNormalization", ["a", "a"], ["b"])
    node.attribute.add(name="epsilon", ref_attr_name="eps", type=onnx.AttributeProto.FLOAT)
    norm = helper.make_function("f", "N", ["a"], ["b"], [node], OPSETS, ["eps"])
    path = tmp_path / "m.onnx"
    path.write_bytes(model_of([call("N")], norm).SerializeToString())
    assert [dict(found.attributes) for found in inspect(path).nodes] == [{"epsilon": "@eps"}]


def put_in(message: Any, field: str) -> None:
    """Gives a text field a value that a file can have and Python cannot set."""
    number = message.DESCRIPTOR.fields_by_name[field].number
    message.MergeFromString(bytes([number << 3 | 2, 3]) + b"\xed\xa0\x80")


@pytest.mark.parametrize("field", ["name", "op_type", "domain", "input", "doc_string"])
def test_a_lone_surrogate_in_a_name(tmp_path: Path, field: str) -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])])
    put_in(model.graph.node[0], field)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=f"Node {field} .* is not text in UTF-8"):
        modelfile.load(tmp_path / "m.onnx")


DEEP = "[" * 100_000 + "]" * 100_000
METADATA = {
    "nested records": [("onnxnorm.layers", DEEP)],
    "nested objects": [("onnxnorm.layers", '[{"a":' * 50_000)],
    "nested field": [("onnxnorm.layers", f'[{{"lowering": {DEEP}}}]')],
    "many digits": [("onnxnorm.layers", "9" * 100_000)],
    "nested target": [("onnxnorm.cpu", DEEP)],
    "wide target": [("onnxnorm.cpu", '{"channel_block": 1e400, "onnxruntime": "1"}')],
    "wider target": [("onnxnorm.cpu", f'{{"channel_block": {"9" * 500}, "onnxruntime": "1"}}')],
    "no width": [("onnxnorm.cpu", '{"channel_block": -8, "onnxruntime": "1"}')],
}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA)
def test_metadata(tmp_path: Path, metadata: list[tuple[str, str]]) -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])])
    for key, value in metadata:
        model.metadata_props.add(key=key, value=value)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    (problem,) = inspect(tmp_path / "m.onnx").problems
    assert metadata[0][0] in problem


def test_many_entries_take_time_in_proportion(tmp_path: Path) -> None:
    """Quadratic, these would take minutes."""
    model = model_of([helper.make_node("Relu", ["x"], ["y"])])
    for place in range(100_000):
        model.metadata_props.add(key=f"k{place % 2}" if place % 3 else "onnxnorm.cpu", value="{}")
    keep_only(model.metadata_props, lambda entry: entry.key == "k0")
    assert len(model.metadata_props) == 33333
    assert {entry.key for entry in model.metadata_props} == {"k0"}


@contextmanager
def no_regular_file(folder: Path, kind: str) -> Iterator[Path]:
    path = folder / "it"
    if kind == "a named pipe":
        os.mkfifo(path)
        yield path
    elif kind == "a device":
        yield Path("/dev/zero")
    elif kind == "a directory":
        path.mkdir()
        yield path
    else:
        with socket.socket(socket.AF_UNIX) as server:
            before = os.getcwd()
            os.chdir(folder)  # such a name may have no more than about 100 bytes
            try:
                server.bind("it")
            finally:
                os.chdir(before)
            yield path


@pytest.mark.parametrize("kind", ["a named pipe", "a device", "a directory", "a socket"])
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    with no_regular_file(tmp_path, kind) as path:
        readers: list[Callable[[Path], object]] = [modelfile.load, inspect, optimize, named]
        if runtime := _runtime():
            readers.append(runtime.InferenceSession)
        for read in readers:
            with pytest.raises(OnnxNormError, match=f"is {kind}, an .* is expected"):
                read(path)


def _runtime() -> Any:
    try:
        from onnxnorm import runtime
    except OnnxNormError:
        return None
    return runtime


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(shape: object, descr: str = "<f4", content: bytes = b"", version: int = 1) -> bytes:
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + content


ARRAYS = {
    "huge": (npy((10**18,)), "0 bytes, and 4000000000000000000 by its shape"),
    "too large to count": (npy((10**18,) * 4), "by its shape"),
    "of no bytes each": (npy((10**15,), "<U0"), "by its shape"),
    "negative": (npy((-1, -4), content=bytes(16)), "by its shape"),
    "longer": (npy((4,), content=bytes(17)), "17 bytes, and 16 by its shape"),
    "shorter": (npy((4,), content=bytes(15)), "15 bytes, and 16 by its shape"),
    "objects": (npy((1,), "|O", b"cos\nsystem\n"), "Python objects"),
    "unheard-of version": (npy((1,), content=bytes(4), version=9), "version (9, 0)"),
    "no shape": (npy("x"), "cannot be read as arrays"),
    "code": (npy((1,), "__import__('os').system('true')"), "cannot be read as arrays"),
    "text": (b"no array at all", "cannot be read as arrays"),
}


@pytest.mark.parametrize(("content", "told"), ARRAYS.values(), ids=ARRAYS)
def test_arrays(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(VerificationError, match=r"a\.npz: cannot be read as arrays") as caught:
        named(npz(tmp_path / "a.npz", x=content))
    assert told in str(caught.value)


def test_an_archive_that_unfolds_is_not_unfolded(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("onnxnorm.parity.inputs.INPUT_BYTES", 2**20)
    path = npz(tmp_path / "a.npz", x=npy((2**18,), content=bytes(2**20)))
    assert path.stat().st_size < 2**12
    with pytest.raises(VerificationError, match=r"at most 0\.000977 GiB are accepted"):
        named(path)


def test_arrays_as_they_should_be(tmp_path: Path) -> None:
    arrays = {
        "scalar": np.array(3, np.int64),
        "columns": np.asfortranarray(np.arange(12, dtype=np.float16).reshape(3, 4)),
        "text": np.array(["a", "bc"]),
        "empty": np.zeros((0, 3), np.float32),
        "large": np.ones((300, 1000), np.float32),
    }
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    for name, array in named(tmp_path / "a.npz").items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == arrays[name].dtype


@pytest.mark.parametrize(
    ("shape", "samples"),
    [
        ((None, 4), 10**12),
        ((None, 4), 10**30),
        ((10**9, 10**9), 1),
        ((10**18,) * 40, 1),
        ((1,) * 100, 1),
        ((0, 2**62, 2**62), 1),
    ],
)
def test_drawn_inputs(shape: tuple[int | None, ...], samples: int) -> None:
    for dtype in ("float32", "int8", "bool"):
        with pytest.raises(VerificationError, match=r"inputs of shapes .*'x': "):
            draw([InputSpec("x", shape, dtype)], samples, 0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--batch", "1" + "0" * 30], "at most 4 GiB are accepted"),
        (["--shape", "x=" + "9" * 5000], "NAME=1x224x224x3 is expected"),
        (["--shape", "x=" + "x".join(["999999999"] * 90)], "at most 4 GiB are accepted"),
        (["--rounds", "1000000000000"], "--rounds"),
        (["--rounds", "9" * 5000], "--rounds"),
        (["--threads", "9" * 50], "--threads"),
    ],
)
def test_numbers_on_the_command_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    pytest.importorskip("onnxruntime")
    from onnxnorm import cli

    path = tmp_path / "m.onnx"
    path.write_bytes(model_of([helper.make_node("Relu", ["x"], ["y"])]).SerializeToString())
    assert cli.main(["bench", str(path), *arguments]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert told in line
    assert len(line) < 5000


def test_records_by_the_thousand_are_read_once_each(tmp_path: Path) -> None:
    record = {"layer_class": "C", "spec": None, "lowering": "unused", "nodes": []}
    layers = [{"name": f"n{place}", **record} for place in range(12_000)]
    model = model_of([helper.make_node("Relu", ["x"], ["y"])])
    model.metadata_props.add(key="onnxnorm.layers", value=json.dumps(layers))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert len(inspect(tmp_path / "m.onnx").layers) == 12_000


def test_records_of_nodes_take_time_in_proportion(tmp_path: Path) -> None:
    """Quadratic, these would take minutes: all nodes of one layer, and many entries of one node."""
    count = 12_000
    names = [f"n{place}" for place in range(count)]
    model = model_of(
        [
            helper.make_node("Relu", [f"v{i}" if i else "x"], [f"v{i + 1}"], n)
            for i, n in enumerate(names)
        ]
        + [helper.make_node("Identity", [f"v{count}"], ["y"])]
    )
    record = LayerRecord("layer", "C", None, "native", tuple(names), "", ((1,),) * count)
    records.write(model, [record])
    for place in range(100_000):
        model.graph.node[0].metadata_props.add(key=f"k{place}", value="{}")
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert path.stat().st_size < 10_000_000
    assert inspect(path).layers == (record,)


@pytest.mark.parametrize("value", [DEEP, '[{"a":' * 50_000, f'[{{"lowering": {DEEP}}}]'])
def test_metadata_of_a_node(tmp_path: Path, value: str) -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"], "relu")])
    model.graph.node[0].metadata_props.add(key=records.NODE_KEY, value=value)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    (problem,) = inspect(tmp_path / "m.onnx").problems
    assert "node 'relu': the metadata 'onnxnorm.layer'" in problem
    assert len(problem) < 1000


def test_a_damaged_archive_is_one_line(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.ones(1000))
    content = buffer.getvalue()
    for end in range(0, len(content), 97):
        (tmp_path / "a.npz").write_bytes(content[:end])
        with pytest.raises(VerificationError, match=r"a\.npz"):
            named(tmp_path / "a.npz")
