"""Which kind of CPU this is to ONNX Runtime, and whether a model for one kind runs here."""

from __future__ import annotations

from functools import cache

import onnxruntime
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotImplementedThere

from onnxnorm.errors import ModelFileError
from onnxnorm.graph.blocked import NCHWC
from onnxnorm.graph.cpu_target import CpuTarget
from onnxnorm.provider_choice import CPU

_REMEDY = "run 'onnxnorm optimize --this-cpu' here, on the file that it was made of"


@cache
def here() -> CpuTarget:
    """This CPU and the release of ONNX Runtime that is installed."""
    # By how many channels ONNX Runtime makes of four.
    graph = helper.make_graph(
        [helper.make_node("ReorderInput", ["x"], ["y"], domain=NCHWC)],
        "block",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4, 1, 1))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid(NCHWC, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=[CPU])
        block = int(session.get_outputs()[0].shape[1])
    except NotImplementedThere:  # for such CPUs ONNX Runtime has no layout of its own
        block = 1
    return CpuTarget(block, onnxruntime.__version__)


def check(target: CpuTarget, name: str) -> None:
    """Whether a model for this target runs here.

    Another block size gives wrong numbers, or none. Nor is another release trusted: ONNX Runtime
    calls these operators internal and never counted their version up, and their weights lie in an
    order that only it knows.

    Raises:
        ModelFileError: it does not.
    """
    own = here()
    if target != own:
        raise ModelFileError(f"{name}: optimized for {target}, here are {own}: {_REMEDY}")
