"""The optimized form for this kind of CPU: norms work in the layout of ONNX Runtime's convolutions.

ONNX Runtime keeps convolutions in blocks of as many channels as a vector register holds, and
reorders tensors round operators that do not know of it. Here it does so once, into a file, and the
reorders round our norms are taken out of that.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime

from onnxnorm import cpu_kind, modelfile
from onnxnorm.errors import ModelFileError
from onnxnorm.graph import cpu_target, functions, records
from onnxnorm.graph.blocked import take_out_reorders
from onnxnorm.graph.fusion.shapes import Shapes
from onnxnorm.graph.nodes import all_graphs, keep_only
from onnxnorm.provider_choice import CPU
from onnxnorm.runtime import register


def for_this_cpu(
    model: onnx.ModelProto, source: str = "the model"
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A model in the optimized form, for this kind of CPU and this release of ONNX Runtime.

    Args:
        model: in the optimized form; not changed.
        source: what an error calls it.

    Returns:
        the model, and the names of the norms that work in blocks. Where there are none, the model
        that was given.

    Raises:
        ModelFileError: ONNX Runtime cannot load it, or it is for some kind of CPU already.
        RuntimeLibraryError: the native library is missing or does not load.
    """
    before = cpu_target.read(model, source)
    if before is not None:
        raise ModelFileError(
            f"{source}: is already optimized for {before}: give the file that it was made of"
        )
    written = _as_onnxruntime_optimizes(model, source)
    target = cpu_kind.here()
    norms = take_out_reorders(written, Shapes(model), target.channel_block)
    if not norms:
        return model, ()
    used = {node.domain for graph in all_graphs(written.graph) for node in graph.node}
    keep_only(written.opset_import, lambda opset: opset.domain in used | {""})
    functions.complete(written)
    records.carry_over(written, model)
    cpu_target.write(written, target)
    written.producer_name, written.producer_version = model.producer_name, model.producer_version
    return written, norms


def _as_onnxruntime_optimizes(model: onnx.ModelProto, source: str) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory(prefix="onnxnorm-") as folder:
        given, result = Path(folder, "given.onnx"), Path(folder, "optimized.onnx")
        modelfile.save(model, given)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it warns that the file fits this machine only
        options.optimized_model_filepath = str(result)
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", f"{result.name}.data"
        )
        register(options, "cpu")
        try:
            onnxruntime.InferenceSession(str(given), options, providers=[CPU])
        except Exception as error:
            raise ModelFileError(f"{source}: ONNX Runtime cannot load it: {error}") from error
        written = modelfile.load(result)
    for graph in all_graphs(written.graph):
        _drop_repeated_initializers(graph)
    return written


def _drop_repeated_initializers(graph: onnx.GraphProto) -> None:
    """ONNX Runtime 1.23 writes those of subgraphs twice."""
    places = {tensor.name: place for place, tensor in enumerate(graph.initializer)}
    if len(places) < len(graph.initializer):
        last = [graph.initializer[place] for place in sorted(places.values())]
        del graph.initializer[:]
        graph.initializer.extend(last)
