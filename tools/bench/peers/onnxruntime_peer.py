"""ONNX Runtime: our operators by themselves, and ONNX files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import onnxnorm
from onnxnorm import benchmark
from tools.bench import network_files, tensors
from tools.bench.cases import EPSILON, NODE, Layer, Network
from tools.bench.peers import Runner

_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}
_OPERATORS = {
    "group": "GroupNormalization",
    "instance": "InstanceNormalization",
    "layer": "LayerNormalization",
}
_PROFILED_ROUNDS = 5
_processors: tuple[int, ...] = (0,)


def start(processors: tuple[int, ...]) -> None:
    """Notes the processors: each session has threads of its own."""
    global _processors
    _processors = processors
    # The calling thread is one of each pool.
    os.sched_setaffinity(0, processors[:1])


def layer(layer: Layer, form: str, files: Path) -> Runner:
    """Our node by itself (`NODE`), or the layer as an ONNX file has it."""
    model = node(layer).SerializeToString() if form == NODE else os.fspath(files / layer.file(form))
    inputs = [tensors.x(layer)] + [tensors.residual(layer)] * layer.residual
    stored = [tensors.aligned(_stored(array, layer.element)) for array in inputs]
    values = [_value(array, layer.element) for array in stored]
    output = tensors.aligned(np.zeros(layer.stored_shape, _storage(layer.element)))

    def found() -> NDArray[Any]:
        numbers = output.view(_bfloat16()) if layer.element == "bfloat16" else output
        return np.moveaxis(numbers.astype(np.float32), layer.axis, -1)

    call = _bound(session(model, with_library=form == NODE), values, output, layer.element)
    return Runner(call, found)


def network(network: Network, form: str, files: Path) -> Runner:
    """A network as an ONNX file has it."""
    inputs, wanted = network_files.tensors(network, files)
    model = os.fspath(files / network.folder / f"{form}.onnx")
    output = tensors.aligned(np.zeros(wanted.shape, np.float32))
    values = [_value(tensors.aligned(inputs), "float32")]
    call = _bound(session(model, with_library=form in network_files.OURS), values, output)
    return Runner(call, lambda: output)


def norm_share(network: Network, form: str, files: Path) -> float:
    """What part of the time of all nodes norms take, with what is fused into them."""
    os.sched_setaffinity(0, _processors)
    settings = benchmark.Settings(len(_processors), _PROFILED_ROUNDS, optimize=False)
    inputs, _ = network_files.tensors(network, files)
    file = files / network.folder / f"{form}.onnx"
    return benchmark.bench(file, None, settings, inputs).nodes.norm_share


def session(model: str | bytes, with_library: bool) -> Any:
    """A session that runs the model as it is."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(_processors)
    if len(_processors) > 1:
        # Of the other threads, counted from 1.
        others = ";".join(str(processor + 1) for processor in _processors[1:])
        options.add_session_config_entry("session.intra_op_thread_affinities", others)
    options.log_severity_level = 3
    if with_library:
        onnxnorm.register(options, "cpu")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _bound(session: Any, values: list[Any], output: NDArray[Any], element: str = "float32") -> Any:
    """Runs a session whose inputs and output stay where they are in memory."""
    binding = session.io_binding()
    for given, value in zip(session.get_inputs(), values, strict=True):
        binding.bind_ortvalue_input(given.name, value)
    result = _value(output, element)
    binding.bind_ortvalue_output(session.get_outputs()[0].name, result)
    # The values must outlive the calls.
    held = (*values, result)
    return lambda held=held: session.run_with_iobinding(binding)


def node(layer: Layer) -> onnx.ModelProto:
    """A model that is one of our nodes."""
    attributes: dict[str, Any] = {"epsilon": EPSILON}
    if layer.norm == "layer":
        attributes["axes"] = [layer.axis]
    else:
        attributes["axis"] = layer.axis
    if layer.norm == "group":
        attributes["num_groups"] = layer.groups
    if layer.activation:
        attributes["activation"] = layer.activation
        if parameters := tensors.parameters(layer.activation):
            attributes["activation_params"] = parameters
    names = ["x", "scale", "bias"] + ["residual"] * layer.residual
    made = helper.make_node(_OPERATORS[layer.norm], names, ["y"], domain="onnxnorm", **attributes)
    kind, shape = _TYPES[layer.element], layer.stored_shape
    graph = helper.make_graph(
        [made],
        "layer",
        [helper.make_tensor_value_info(name, kind, shape) for name in ("x", *names[3:])],
        [helper.make_tensor_value_info("y", kind, shape)],
        [
            _initializer(tensors.scale(layer), "scale", layer),
            _initializer(tensors.bias(layer), "bias", layer),
        ],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("onnxnorm", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def _initializer(values: NDArray[np.float32], name: str, layer: Layer) -> TensorProto:
    if layer.norm == "layer":
        # These broadcast to X.
        values = values.reshape((-1,) + (1,) * (len(layer.shape) - 1 - layer.axis))
    tensor = numpy_helper.from_array(_stored(values, layer.element), name)
    tensor.data_type = _TYPES[layer.element]
    return tensor


def _bfloat16() -> Any:
    import ml_dtypes

    return ml_dtypes.bfloat16


def _storage(element: str) -> Any:
    # numpy has no bfloat16: its bits.
    return {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}[element]


def _stored(values: NDArray[np.float32], element: str) -> NDArray[Any]:
    if element == "bfloat16":
        return values.astype(_bfloat16()).view(np.uint16)
    return values.astype(_storage(element))


def _value(stored: NDArray[Any], element: str) -> Any:
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(stored, _TYPES[element])
