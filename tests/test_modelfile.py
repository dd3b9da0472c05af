from __future__ import annotations

import contextlib
import os
import resource

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from onnxnorm import modelfile
from onnxnorm.errors import ModelFileError
from onnxnorm.graph.inspection import inspect

SMALL = onnx.parser.parse_model(
    '<ir_version: 9, opset_import: ["" : 18]>'
    "small (float[N,3] x) => (float[N,3] y) <float[3] s = {1,2,3}>"
    "{ [norm] y = LayerNormalization <axis = -1, epsilon = 0.001> (x, s) }"
)
CONTENT = SMALL.SerializeToString()


def large_model(elements: int = 4096) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(SMALL)
    for name in ("first", "second"):
        values = np.arange(elements, dtype=np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def test_what_is_saved_is_loaded(tmp_path):
    modelfile.save(SMALL, tmp_path / "m.onnx")
    assert modelfile.load(tmp_path / "m.onnx") == SMALL
    assert os.listdir(tmp_path) == ["m.onnx"]


def test_large_tensors_go_beside_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(modelfile, "INLINE_LIMIT", 10_000)
    model = large_model()
    before = model.SerializeToString(deterministic=True)
    modelfile.save(model, tmp_path / "m.onnx")
    assert model.SerializeToString(deterministic=True) == before
    assert sorted(os.listdir(tmp_path)) == ["m.onnx", "m.onnx.data"]
    assert (tmp_path / "m.onnx").stat().st_size < 1000
    onnx.checker.check_model(str(tmp_path / "m.onnx"))
    loaded = modelfile.load(tmp_path / "m.onnx")
    for stored, original in zip(loaded.graph.initializer, model.graph.initializer, strict=True):
        np.testing.assert_array_equal(
            numpy_helper.to_array(stored), numpy_helper.to_array(original)
        )


def test_absent_external_tensors_are_named_unless_not_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr(modelfile, "INLINE_LIMIT", 10_000)
    modelfile.save(large_model(), tmp_path / "m.onnx")
    (tmp_path / "m.onnx.data").unlink()
    assert len(modelfile.load(tmp_path / "m.onnx", weights=False).graph.initializer) == 3
    assert len(inspect(tmp_path / "m.onnx").nodes) == 1
    with pytest.raises(ModelFileError, match=r"m\.onnx: cannot read its external tensors"):
        modelfile.load(tmp_path / "m.onnx")


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname"])
def test_external_tensors_stay_in_the_folder(tmp_path, location):
    model = large_model()
    tensor = model.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (tmp_path / "secret").write_bytes(bytes(4 * 4096))
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="external tensors"):
        modelfile.load(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"PK\x03\x04 not a model", "not an ONNX file"),
        (b"\x08\x09", "it has no graph and no operator set"),
        (CONTENT[: len(CONTENT) // 2], "damaged"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, content, reason):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=reason):
        modelfile.load(path)


def test_a_directory_and_an_absent_file_are_refused(tmp_path):
    with pytest.raises(ModelFileError, match="is a directory"):
        modelfile.load(tmp_path)
    with pytest.raises(ModelFileError, match="no such file"):
        modelfile.load(tmp_path / "absent.onnx")


def test_a_file_larger_than_the_format_allows_is_not_read(tmp_path):
    path = tmp_path / "m.onnx"
    with path.open("wb") as stream:
        stream.truncate(3 << 30)
    with pytest.raises(ModelFileError, match="more than an ONNX file can have"):
        modelfile.load(path)


@given(st.integers(0, len(CONTENT) - 1))
def test_truncation_anywhere_is_an_error_of_ours(tmp_path_factory, length):
    path = tmp_path_factory.getbasetemp() / "truncated.onnx"
    path.write_bytes(CONTENT[:length])
    with pytest.raises(ModelFileError):
        modelfile.load(path)


@given(st.integers(0, len(CONTENT) - 1), st.integers(1, 255))
def test_one_wrong_byte_is_an_error_of_ours_or_harmless(tmp_path_factory, position, change):
    content = bytearray(CONTENT)
    content[position] ^= change
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(content)
    with contextlib.suppress(ModelFileError):
        inspect(path)


def test_a_full_disk_leaves_what_was_there(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_text("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ModelFileError, match=r"cannot write .*m\.onnx"):
            modelfile.save(large_model(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["m.onnx"]
