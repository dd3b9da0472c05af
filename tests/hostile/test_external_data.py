"""External tensors: nothing outside the model's folder is read, by whatever way leads there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxnorm import modelfile
from onnxnorm.errors import ModelFileError
from onnxnorm.graph.fusion import optimize

SECRET = bytes(range(256)) * 4
SHAPE = (64, 4)


def external(name: str = "w", data_type: int = TensorProto.FLOAT, **entries: object) -> TensorProto:
    tensor = TensorProto(
        name=name, dims=SHAPE, data_type=data_type, data_location=TensorProto.EXTERNAL
    )
    for key, value in {"location": "w.bin", **entries}.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return tensor


def model_with(tensor: TensorProto) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", tensor.name], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, SHAPE[1]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, SHAPE[1]])],
        [tensor],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for the model, with a good data file; beside it a file that is none of its."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "w.bin").write_bytes(SECRET)
    return tmp_path / "model"


def written(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def in_runtime(path: Path) -> Any:
    return pytest.importorskip("onnxnorm.runtime").InferenceSession(path)


def content_in_runtime(path: Path) -> object:
    runtime = pytest.importorskip("onnxnorm.runtime")
    options = pytest.importorskip("onnxruntime").SessionOptions()
    options.add_session_config_entry(runtime._FOLDER_OPTION, str(path.parent))
    return runtime.InferenceSession(path.read_bytes(), options)


def without_library(path: Path) -> object:
    return pytest.importorskip("onnxnorm.parity.engine")._plain_session(path, None)


READERS = (modelfile.load, optimize, in_runtime, content_in_runtime, without_library)


def symbolic_link(folder: Path) -> None:
    (folder / "w.bin").unlink()
    (folder / "w.bin").symlink_to("../secret")


def link_inside(folder: Path) -> None:
    (folder / "w.bin").rename(folder / "other.bin")
    (folder / "w.bin").symlink_to("other.bin")


def hard_link(folder: Path) -> None:
    (folder / "w.bin").unlink()
    os.link(folder.parent / "secret", folder / "w.bin")


def linked_folder(folder: Path) -> None:
    (folder / "inner").symlink_to("../outside")


def linked_below(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "real" / "inner").symlink_to("../../outside")


def named_pipe(folder: Path) -> None:
    (folder / "w.bin").unlink()
    os.mkfifo(folder / "w.bin")


def directory(folder: Path) -> None:
    (folder / "w.bin").unlink()
    (folder / "w.bin").mkdir()


def absent(folder: Path) -> None:
    (folder / "w.bin").unlink()


def nothing(folder: Path) -> None: ...


WHERE = {
    "symbolic link": (symbolic_link, {}, "symbolic link"),
    "link inside": (link_inside, {}, "symbolic link"),
    "hard link": (hard_link, {}, "hard link"),
    "linked folder": (linked_folder, {"location": "inner/secret"}, "symbolic link"),
    "linked below": (linked_below, {"location": "real/inner/secret"}, "symbolic link"),
    "pipe": (named_pipe, {}, "not a regular file"),
    "directory": (directory, {}, "not a regular file"),
    "absent": (absent, {}, "No such file"),
    "absolute": (nothing, {"location": "/etc/passwd"}, "not in the model's folder"),
    "above": (nothing, {"location": "../secret"}, "not in the model's folder"),
    "above and back": (nothing, {"location": "../model/w.bin"}, "not in the model's folder"),
    "hidden above": (nothing, {"location": "a/../../secret"}, "not in the model's folder"),
    "empty": (nothing, {"location": ""}, "not the name of a data file"),
    "none": (nothing, {"location": None}, "not the name of a data file"),
    "the folder": (nothing, {"location": "."}, "not in the model's folder"),
    "zero byte": (nothing, {"location": "w.bin\0/../../secret"}, "not the name of a data file"),
    "too long": (nothing, {"location": "w" * 300}, "too long"),
    "address": (nothing, {"location": "*/_ORT_MEM_ADDR_/*"}, "No such file"),
    "device": (nothing, {"location": "/dev/zero"}, "not in the model's folder"),
}
WHAT = {
    "negative offset": ({"offset": -4}, "offset '-4'"),
    "offset behind the end": ({"offset": 4}, "bytes 4 to 1028 of 'w.bin', which has 1024"),
    "offset beyond any": ({"offset": 2**63 + 5}, "bytes"),
    "offset with many digits": ({"offset": "9" * 5000}, "larger than any file"),
    "offset of letters": ({"offset": "0x10"}, "offset '0x10'"),
    "offset of other digits": ({"offset": "\u0661"}, "is not a number"),
    "negative length": ({"length": -1}, "length '-1'"),
    "short length": ({"length": 1020}, "1020 bytes are given"),
    "long length": ({"length": 1028}, "1028 bytes are given"),
    "unknown key": ({"prepacked_0": "x|0;99999"}, "unknown or repeated"),
    "attribute of a Python object": ({"__class__": "x"}, "unknown or repeated"),
    "strings": ({"data_type": TensorProto.STRING}, "no external form"),
    "undefined type": ({"data_type": 0}, "no external form"),
    "unheard-of type": ({"data_type": 77}, "no external form"),
    "wider type": ({"data_type": TensorProto.DOUBLE}, "of 'w.bin', which has 1024"),
}


@pytest.mark.parametrize("read", READERS, ids=lambda reader: reader.__name__)
@pytest.mark.parametrize(("prepare", "entries", "told"), WHERE.values(), ids=WHERE)
def test_where_no_data_file_may_lie(
    folder: Path,
    read: Callable[[Path], object],
    prepare: Callable[[Path], None],
    entries: dict[str, str],
    told: str,
) -> None:
    prepare(folder)
    path = written(model_with(external(**entries)), folder)
    with pytest.raises(ModelFileError) as caught:
        read(path)
    assert told in str(caught.value)


@pytest.mark.parametrize("read", READERS, ids=lambda reader: reader.__name__)
@pytest.mark.parametrize(("entries", "told"), WHAT.values(), ids=WHAT)
def test_what_a_tensor_may_not_say(
    folder: Path, read: Callable[[Path], object], entries: dict[str, object], told: str
) -> None:
    path = written(model_with(external(**entries)), folder)
    with pytest.raises(ModelFileError) as caught:
        read(path)
    assert told in str(caught.value)


def test_a_repeated_entry_is_refused(folder: Path) -> None:
    tensor = external()
    tensor.external_data.add(key="location", value="../secret")
    with pytest.raises(ModelFileError, match="unknown or repeated"):
        modelfile.load(written(model_with(tensor), folder))


def as_attribute(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def as_list_attribute(model: onnx.ModelProto, tensor: TensorProto) -> None:
    node = model.graph.node.add(op_type="Many", domain="other", output=["c"])
    node.attribute.add(name="all", type=onnx.AttributeProto.TENSORS, tensors=[tensor])


def as_sparse_values(model: onnx.ModelProto, tensor: TensorProto) -> None:
    sparse = onnx.SparseTensorProto(values=tensor, dims=[10])
    model.graph.sparse_initializer.append(sparse)


def as_sparse_attribute(model: onnx.ModelProto, tensor: TensorProto) -> None:
    node = model.graph.node.add(op_type="Constant", output=["c"])
    sparse = onnx.SparseTensorProto(indices=tensor, dims=[10])
    node.attribute.add(
        name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse
    )


def in_branch(model: onnx.ModelProto, tensor: TensorProto) -> None:
    branch = helper.make_graph([], "b", [], [], [tensor])
    model.graph.node.append(
        helper.make_node("If", ["x"], [], then_branch=branch, else_branch=branch)
    )


def in_function(model: onnx.ModelProto, tensor: TensorProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    model.functions.append(helper.make_function("f", "F", [], ["c"], [node], []))


def as_default_of_a_function(model: onnx.ModelProto, tensor: TensorProto) -> None:
    function = helper.make_function("f", "F", [], [], [], [])
    function.attribute_proto.append(helper.make_attribute("value", tensor))
    model.functions.append(function)


def in_training(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.training_info.add().algorithm.initializer.append(tensor)


@pytest.mark.parametrize(
    "put",
    [
        as_attribute,
        as_list_attribute,
        as_sparse_values,
        as_sparse_attribute,
        in_branch,
        in_function,
        as_default_of_a_function,
        in_training,
    ],
)
@pytest.mark.parametrize("read", [modelfile.load, in_runtime])
def test_wherever_the_tensor_stands(
    folder: Path,
    put: Callable[[onnx.ModelProto, TensorProto], None],
    read: Callable[[Path], object],
) -> None:
    model = model_with(numpy_helper.from_array(np.ones(SHAPE, np.float32), "w"))
    put(model, external("hidden", location="../secret"))
    with pytest.raises(ModelFileError, match=r"'hidden': '\.\./secret' is not in the"):
        read(written(model, folder))


def test_bytes_of_one_file_are_not_read_many_times(folder: Path) -> None:
    model = model_with(external())
    spellings = ("w.bin", "./w.bin", "././w.bin")
    model.graph.initializer.extend(
        external(f"w{place}", location=spellings[place % 3]) for place in range(8)
    )
    with pytest.raises(ModelFileError, match="more than 8 times as many"):
        modelfile.load(written(model, folder))


def test_where_links_lie_the_error_says_what_to_do(tmp_path: Path) -> None:
    """As in the cache of a model hub, where names are links to files with the names of hashes."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    written(model_with(external()), tmp_path / "blobs").rename(tmp_path / "blobs" / "aaa")
    (tmp_path / "blobs" / "bbb").write_bytes(SECRET)
    (tmp_path / "snapshot" / "m.onnx").symlink_to("../blobs/aaa")
    (tmp_path / "snapshot" / "w.bin").symlink_to("../blobs/bbb")
    with pytest.raises(ModelFileError, match=r"symbolic link.*cp -rL"):
        modelfile.load(tmp_path / "snapshot" / "m.onnx")


GOOD = {
    "plain": ({}, "w.bin"),
    "with all": ({"offset": 0, "length": 1024, "checksum": "?", "basepath": ""}, "w.bin"),
    "dot": ({"location": "./w.bin"}, "w.bin"),
    "below": ({"location": "weights/of/w.bin"}, "weights/of/w.bin"),
    "packed": ({"data_type": TensorProto.INT4, "length": 128}, "w.bin"),
    "bfloat16": ({"data_type": TensorProto.BFLOAT16, "offset": 512, "length": 512}, "w.bin"),
}


@pytest.mark.parametrize(("entries", "name"), GOOD.values(), ids=GOOD)
def test_what_is_right_is_read(folder: Path, entries: dict[str, object], name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(SECRET)
    tensor = external(**entries)
    (loaded,) = modelfile.load(written(model_with(tensor), folder)).graph.initializer
    start, length = int(entries.get("offset", 0)), int(entries.get("length", 1024))
    assert loaded.raw_data == SECRET[start : start + length]
    assert (loaded.data_location, len(loaded.external_data)) == (TensorProto.DEFAULT, 0)


@pytest.mark.parametrize("one_file", [True, False])
def test_what_onnx_writes_is_read(tmp_path: Path, one_file: bool) -> None:
    arrays = {
        "w": np.arange(256, dtype=np.float32).reshape(SHAPE),
        "empty": np.zeros((0, 4), np.float16),
        "scalar": np.array(7, np.int64),
    }
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    model = model_with(tensors[0])
    model.graph.initializer.extend(tensors[1:])
    path = tmp_path / "m.onnx"
    options = {"save_as_external_data": True, "size_threshold": 0}
    onnx.save_model(model, path, all_tensors_to_one_file=one_file, **options)
    loaded = modelfile.load(path)
    for tensor in loaded.graph.initializer:
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), arrays[tensor.name])
    (y,) = in_runtime(path).run(None, {"x": np.ones(SHAPE, np.float32)})
    np.testing.assert_array_equal(y, arrays["w"] + 1)


def test_the_name_of_a_format_does_not_hide_a_model(folder: Path) -> None:
    """Where ONNX Runtime is told which format a file has, that is how it is checked."""
    runtime = pytest.importorskip("onnxnorm.runtime")
    path = folder / "m.ort"
    path.write_bytes(model_with(external(location="../secret")).SerializeToString())
    options = pytest.importorskip("onnxruntime").SessionOptions()
    options.add_session_config_entry("session.load_model_format", "ONNX")
    with pytest.raises(ModelFileError, match="not in the model's folder"):
        runtime.InferenceSession(path, options)


def test_a_model_does_not_look_like_another_format(folder: Path) -> None:
    """ONNX Runtime knows its own format by four letters in memory, and by the name of a file."""
    model = model_with(external(location="../secret"))
    content = bytes([8, 9, 18, 4]) + b"ORTM" + model.SerializeToString()
    path = folder / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="not in the model's folder"):
        in_runtime(path)
    with pytest.raises(ModelFileError, match="ONNX Runtime cannot load it"):
        content_in_runtime(path)
