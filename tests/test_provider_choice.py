"""Sessions on the providers that users expect, on machines that have no device."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxnorm
from onnxnorm import provider_choice, runtime
from onnxnorm.opset import OPERATORS, function
from onnxnorm.provider_choice import CPU, CUDA
from tests.custom_ops.nodes import model

X = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
INPUTS = {"X": X, "scale": np.ones(8, np.float32), "bias": np.zeros(8, np.float32)}


def one_norm(with_body: bool) -> onnx.ModelProto:
    proto = model("LayerNormalization", ((2, 8), (8,), (8,)), axes=[-1], epsilon=1e-5)
    if with_body:
        proto.functions.append(function(OPERATORS["LayerNormalization"], 17))
        proto.ir_version = 9
    return proto


TENSORRT = "TensorrtExecutionProvider"
AZURE = "AzureExecutionProvider"


@pytest.mark.parametrize(
    ("asked", "device", "has_library", "expected"),
    [
        ([CPU], True, True, "cpu"),
        ([], True, True, "cpu"),
        ([CUDA, CPU], True, True, "cuda"),
        ([CUDA, CPU], True, False, None),
        ([CUDA, CPU], False, True, "cpu"),
        (["NotThereExecutionProvider", CPU], True, True, "cpu"),
        ([(TENSORRT, {}), (CUDA, {"device_id": 1}), CPU], True, True, "cuda"),
        ([TENSORRT, CPU], True, True, None),
        ([AZURE, CPU], True, True, "cpu"),
        ([AZURE, CUDA, CPU], True, True, "cuda"),
    ],
)
def test_library_of_a_session(
    monkeypatch: pytest.MonkeyPatch,
    asked: list[Any],
    device: bool,
    has_library: bool,
    expected: str | None,
) -> None:
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: [AZURE, TENSORRT, CUDA, CPU]
    )
    monkeypatch.setattr(provider_choice, "has_cuda_device", lambda: device)
    assert provider_choice.library(asked, has_library) == expected


@pytest.mark.parametrize(
    ("available", "device", "expected"),
    [([CPU], True, [CPU]), ([CUDA, CPU], False, [CPU]), ([CUDA, CPU], True, [CUDA, CPU])],
)
def test_default_providers(
    monkeypatch: pytest.MonkeyPatch, available: list[str], device: bool, expected: list[str]
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    monkeypatch.setattr(provider_choice, "has_cuda_device", lambda: device)
    assert provider_choice.default() == expected


def test_the_default_is_used_without_a_word() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session = onnxnorm.InferenceSession(one_norm(with_body=True))
    assert session.get_providers() == provider_choice.default()


needs_no_device = pytest.mark.skipif(
    provider_choice.has_cuda_device(), reason="what is asked for is there"
)


@needs_no_device
@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("with_body", [True, False])
def test_a_device_that_is_not_there_is_told_and_the_cpu_serves(with_body: bool) -> None:
    with pytest.warns(RuntimeWarning, match=f"asked for {CUDA}, but runs on {CPU}"):
        session = onnxnorm.InferenceSession(one_norm(with_body), providers=[CUDA, CPU])
    assert session.get_providers() == [CPU]
    (y,) = session.run(None, INPUTS)
    assert abs(float(y.mean())) < 1e-6


@needs_no_device
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_strict_makes_it_an_error() -> None:
    with pytest.raises(onnxnorm.RuntimeLibraryError, match=f"model: asked for {CUDA}"):
        onnxnorm.InferenceSession(one_norm(True), providers=[CUDA, CPU], strict=True)


@dataclass
class Node:
    name: str
    domain: str


@dataclass
class Part:
    ep_name: str
    nodes: list[Node]

    def get_nodes(self) -> list[Node]:
        return self.nodes


@dataclass
class Session:
    """What a session on a device tells of itself."""

    parts: list[Part]

    def get_providers(self) -> list[str]:
        return [CUDA, CPU]

    def get_provider_graph_assignment_info(self) -> list[Part]:
        return self.parts


def test_nodes_left_on_the_cpu_are_told() -> None:
    parts = [
        Part(CUDA, [Node("there", "onnxnorm"), Node("conv", "")]),
        Part(CPU, [Node("here", "onnxnorm"), Node("shape", "")]),
    ]
    (told,) = provider_choice.left_on_cpu(Session(parts))
    assert "1 normalization nodes run on the CPU" in told
    assert told.endswith(": here")
    assert not list(provider_choice.left_on_cpu(Session(parts[:1])))


def test_the_runtime_records_where_nodes_are() -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(provider_choice.RECORD_OPTION, "1")
    session = onnxnorm.InferenceSession(one_norm(False), sess_options=options)
    if not hasattr(session, "get_provider_graph_assignment_info"):
        pytest.skip("this release does not tell")
    (part,) = session.get_provider_graph_assignment_info()
    assert part.ep_name == CPU
    assert [(node.name, node.domain) for node in part.get_nodes()] == [("norm", "onnxnorm")]


def test_a_session_that_records_nothing_tells_nothing() -> None:
    # As after TensorRT, which ONNX Runtime replaces by CUDA where it cannot be used.
    session = onnxruntime.InferenceSession(one_norm(True).SerializeToString(), providers=[CPU])

    class Replaced(Session):
        def get_provider_graph_assignment_info(self) -> list[Part]:
            return list(session.get_provider_graph_assignment_info())

    assert not list(provider_choice.left_on_cpu(Replaced([])))


def test_a_missing_cuda_library_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("ONNXNORM_CUDA_LIBRARY", str(tmp_path / "absent.so"))
    with pytest.raises(onnxnorm.RuntimeLibraryError, match=r"ONNXNORM_CUDA_LIBRARY.*absent\.so"):
        onnxnorm.library_path("cuda")
    assert not runtime.has_cuda_library()


def test_unknown_provider() -> None:
    with pytest.raises(onnxnorm.RuntimeLibraryError, match="'rocm': only for 'cpu' or 'cuda'"):
        onnxnorm.library_path("rocm")


@pytest.mark.skipif(not runtime.has_cuda_library(), reason="built without nvcc")
def test_the_cuda_library_serves_the_cpu_too() -> None:
    options = onnxruntime.SessionOptions()
    onnxnorm.register(options, "cuda")
    session = onnxruntime.InferenceSession(
        one_norm(False).SerializeToString(), options, providers=[CPU]
    )
    (y,) = session.run(None, INPUTS)
    assert abs(float(y.mean())) < 1e-6
