"""OpenVINO on ONNX files, whose names are its forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import properties

from tools.bench import network_files, tensors
from tools.bench.cases import Layer, Network
from tools.bench.peers import Runner

_threads = 1


def start(processors: tuple[int, ...]) -> None:
    """Notes the threads: each compiled model has its own."""
    global _threads
    _threads = len(processors)


def layer(layer: Layer, form: str, files: Path) -> Runner:
    """The layer as an ONNX file has it."""
    runner = _compiled(files / layer.file(form), tensors.x(layer))
    return Runner(runner.call, lambda: np.moveaxis(runner.output(), layer.axis, -1))


def network(network: Network, form: str, files: Path) -> Runner:
    """A network as an ONNX file has it."""
    inputs, _ = network_files.tensors(network, files)
    return _compiled(files / network.folder / f"{form}.onnx", inputs)


def _compiled(path: Path, x: NDArray[np.float32]) -> Runner:
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape(list(x.shape))
    # As asked for one request at a time; and not in bfloat16, as CPUs that have it get.
    configuration = {
        properties.inference_num_threads(): _threads,
        properties.hint.enable_cpu_pinning(): True,
        properties.hint.performance_mode(): properties.hint.PerformanceMode.LATENCY,
        properties.hint.inference_precision(): openvino.Type.f32,
    }
    request = core.compile_model(model, "CPU", configuration).create_infer_request()
    given = tensors.aligned(x)
    request.set_input_tensor(openvino.Tensor(given, shared_memory=True))
    return Runner(
        # Otherwise each call copies the output once more.
        lambda: request.infer(share_outputs=True),
        lambda held=given: request.get_output_tensor().data.copy(),
    )
