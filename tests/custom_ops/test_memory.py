"""Memory of a process that makes sessions and lets them go, none alive in between."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from onnxnorm.opset import DOMAIN, OPERATORS, VERSION, function

#: Prints how many bytes the process grew by in 1,000 rounds.
ROUNDS = """
import ctypes, gc, sys
from pathlib import Path
import numpy as np, onnxruntime, onnxnorm

model = Path(sys.argv[1]).read_bytes()
x = np.ones((2, 4), np.float32)

def options():
    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads = 1
    return made

def register():
    onnxnorm.register(options())

def plain():
    made = options()
    onnxnorm.register(made)
    runner = onnxruntime.InferenceSession(model, made, providers=["CPUExecutionProvider"])
    runner.run(None, {"X": x})

def fused():
    onnxnorm.InferenceSession(model, options(), ["CPUExecutionProvider"]).run(None, {"X": x})

def resident():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

one_round = globals()[sys.argv[2]]
for _ in range(100):
    one_round()
before = resident()
for _ in range(1000):
    one_round()
print(resident() - before)
"""


def norm_and_activation() -> onnx.ModelProto:
    """Relu(LayerNormalization(X)), which a session of ours runs as one node."""
    vector = helper.make_tensor("ones", TensorProto.FLOAT, (4,), [1.0] * 4)
    nodes: list[Any] = [
        helper.make_node("LayerNormalization", ["X", "ones", "ones"], ["N"], domain=DOMAIN),
        helper.make_node("Relu", ["N"], ["Y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ("n", 4)) for n in "XY")
    graph = helper.make_graph(nodes, "norm_and_activation", [x], [y], [vector])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, VERSION)]
    body = function(OPERATORS["LayerNormalization"], 17)
    return helper.make_model(graph, opset_imports=opsets, functions=[body], ir_version=8)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["register", "plain", "fused"])
def test_a_thousand_sessions_take_no_more_memory_than_one(tmp_path: Path, kind: str) -> None:
    """The library stays loaded: loaded anew, each round would take 10 to 60 KB more."""
    path = tmp_path / "m.onnx"
    path.write_bytes(norm_and_activation().SerializeToString())
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ROUNDS, str(path), kind],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 3 << 20
