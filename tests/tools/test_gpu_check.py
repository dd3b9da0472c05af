"""The check for whoever has a GPU, with the CPU in the device's place."""

from __future__ import annotations

from typing import Any

import onnx
import pytest

import onnxnorm
from tools import gpu_check
from tools.cuda_cases import CASES
from tools.cuda_table import SHAPES


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def session(model: onnx.ModelProto) -> Any:
        return onnxnorm.InferenceSession(model, providers=["CPUExecutionProvider"], optimize=False)

    monkeypatch.setattr(gpu_check, "session", session)


@pytest.mark.parametrize("element", gpu_check.ELEMENTS)
@pytest.mark.parametrize("name", CASES)
def test_right_kernels_are_in_parity(name: str, element: str) -> None:
    found = gpu_check.parity(name, CASES[name], element, mean=1.0)
    assert found.passed, found


def test_wrong_kernels_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    session = gpu_check.session

    class SlightlyOff:
        def __init__(self, model: onnx.ModelProto) -> None:
            self._session = session(model)

        def run(self, names: None, inputs: dict[str, Any]) -> list[Any]:
            return [y * 1.00001 for y in self._session.run(names, inputs)]

    monkeypatch.setattr(gpu_check, "session", SlightlyOff)
    assert not gpu_check.parity("rows", CASES["rows"], "float32", mean=0.0).passed


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_every_layer_has_an_elementwise_node_beside_it(shape: Any) -> None:
    parties = gpu_check.parties(shape, "float16")
    assert {"elementwise", "onnxnorm"} <= set(parties)
