"""One model, one file: however often, and in whichever process, it is converted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from onnxnorm.deterministic import OrderedSet  # noqa: E402
from onnxnorm.graph.nodes import all_graphs  # noqa: E402
from tests.conversion.keras_cases import CASES  # noqa: E402

_NAMES = (
    "mnist layer",
    "layer between convolutions",
    "layer in two branches",
    "group and layer in branches",
    "layer time distributed",
    "recurrent, stacked",
    "bidirectional",
)

_IN_A_PROCESS = """
import hashlib
import onnxnorm
from tests.conversion.keras_cases import CASES
model = onnxnorm.convert(CASES["group and layer in branches"].model()).model
print(hashlib.sha256(model.SerializeToString()).hexdigest())
"""


@pytest.mark.parametrize("name", [name for name in _NAMES if name in CASES])
def test_two_conversions_are_equal(name: str) -> None:
    model = CASES[name].model()
    first, second = (onnxnorm.convert(model).model for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString()
    assert first.producer_name == "onnxnorm"
    for graph in all_graphs(first.graph):
        names = [n for node in graph.node for n in (node.name, *node.input, *node.output)]
        for value in (*graph.input, *graph.output, *graph.value_info):
            names += [value.name, *(d.dim_param for d in value.type.tensor_type.shape.dim)]
        assert not [name for name in names if "PyFunc" in name or "unk__" in name]
    for value in (first.graph.input[0], first.graph.output[0]):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_two_processes_are_equal() -> None:
    root = Path(__file__).parents[2]
    outputs = set()
    code = f"import tensorflow as tf\ntf.keras.utils.set_random_seed(3)\n{_IN_A_PROCESS}"
    for seed in ("1", "2"):
        path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        outputs.add(run.stdout.split()[-1])
    assert len(outputs) == 1


def test_ordered_sets_are_sets() -> None:
    numbers = OrderedSet([3, 1, 2])
    assert list(numbers) == [3, 1, 2]
    assert list(numbers - {1}) == [3, 2]
    assert list(numbers | [0]) == [3, 1, 2, 0]
    assert list(numbers & {2, 3}) == [3, 2]
    assert ({1, 5} | numbers) == {1, 2, 3, 5}
    assert numbers == {1, 2, 3}
    assert numbers.issubset([1, 2, 3, 4])
    assert numbers.issuperset([1])
    assert list(numbers.union([7], [8])) == [3, 1, 2, 7, 8]
    assert list(numbers.difference([3], [2])) == [1]
    assert list(numbers.intersection([3, 2], [2])) == [2]
    numbers |= OrderedSet([9])
    numbers.remove(3)
    assert list(numbers) == [1, 2, 9]
