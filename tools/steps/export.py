"""Second step: the trained model as ONNX, the way tf2onnx writes it today and in our forms."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import onnx

import onnxnorm
from models import NORM_LAYER, ModelCard
from tools import environment, tensorflow_setup
from tools.steps import Advance, PipelineError, train, workspace
from tools.steps.workspace import Stamp

STEP = "export"
OPSET = 18


@dataclass(frozen=True)
class Form:
    """One way of writing a model as ONNX.

    Attributes:
        name: of its files and in tables.
        title: one line for a reader.
        needs_library: whether it is run with the native library registered.
        lowering: for `onnxnorm.convert`; None for what tf2onnx makes alone.
    """

    name: str
    title: str
    needs_library: bool
    lowering: Literal["custom", "native"] | None

    @property
    def ours(self) -> bool:
        """Whether it is held to parity; the plain graph is there to compare with."""
        return self.lowering is not None

    @property
    def network_file(self) -> str:
        """The whole network."""
        return f"{self.name}.onnx"

    @property
    def layer_file(self) -> str:
        """Its normalization layer alone."""
        return f"{self.name}_layer.onnx"


PLAIN = Form("plain", "tf2onnx alone", needs_library=False, lowering=None)
NATIVE = Form("native", "standard operators", needs_library=False, lowering="native")
CUSTOM = Form("custom", "one onnxnorm node for each layer", needs_library=True, lowering="custom")
FORMS = (PLAIN, NATIVE, CUSTOM)


@dataclass(frozen=True)
class GraphSize:
    """How much there is in a graph; function bodies are not counted.

    Attributes:
        nodes: all nodes.
        norm_nodes: how many more than in the graph that tf2onnx makes of the same network without
            its normalization layer. So a Transpose that the layer costs counts as its own, and a
            layer that folds into its neighbour counts nothing.
        operators: how many of each, most frequent first.
        layer_nodes: nodes of the normalization layer exported alone.
        file_size: of the network, in bytes.
        seconds: that the export of the network took.
    """

    nodes: int
    norm_nodes: int
    operators: Mapping[str, int]
    layer_nodes: int
    file_size: int
    seconds: float


def key(card: ModelCard, trained: Stamp) -> dict[str, Any]:
    """Everything that the exported files depend on."""
    return {
        "model": card.name,
        "keras_file": trained.files[train.KERAS_FILE],
        "opset": OPSET,
        "forms": [form.name for form in FORMS],
        "onnxnorm": workspace.package_checksum(onnxnorm.__name__),
        "versions": {
            name: environment.installed_version(name) for name in ("tensorflow", "tf2onnx", "onnx")
        },
    }


def export(card: ModelCard, trained: Stamp, folder: Path, threads: int, advance: Advance) -> Stamp:
    """Writes every form of the network and of its normalization layer.

    The conversions start from the saved Keras file, as a user's do.

    Args:
        card: which model.
        trained: what training left in `folder`.
        folder: where the model's files are and go.
        threads: of TensorFlow's pools.
        advance: told the part that is done.

    Returns:
        A stamp whose result holds a `GraphSize` for each form and the layer records of ours.

    Raises:
        PipelineError: an exported graph is no valid ONNX model.
        onnxnorm.OnnxNormError: a conversion failed.
    """
    tf = tensorflow_setup.start(threads)
    keras_file = folder / train.KERAS_FILE
    model = tf.keras.models.load_model(keras_file)
    bare = plain(_without_norm(tf, model))
    layer = layer_model(tf, model)
    advance(0.1)

    sizes: dict[str, GraphSize] = {}
    records: dict[str, list[dict[str, Any]]] = {}
    for index, form in enumerate(FORMS):
        start = time.perf_counter()
        if form.lowering is None:
            network, cut = plain(model), plain(layer)
        else:
            conversion = onnxnorm.convert(keras_file, lowering=form.lowering, opset=OPSET)
            network = conversion.model
            cut = onnxnorm.convert(layer, lowering=form.lowering, opset=OPSET).model
            records[form.name] = [record.to_dict() for record in conversion.layers]
        seconds = time.perf_counter() - start
        for proto, name in ((network, form.network_file), (cut, form.layer_file)):
            _write(proto, folder / name)
        sizes[form.name] = GraphSize(
            nodes=len(network.graph.node),
            norm_nodes=len(network.graph.node) - len(bare.graph.node),
            operators=dict(Counter(node.op_type for node in network.graph.node).most_common()),
            layer_nodes=len(cut.graph.node),
            file_size=(folder / form.network_file).stat().st_size,
            seconds=round(seconds, 2),
        )
        advance((index + 1) / len(FORMS))
    files = [name for form in FORMS for name in (form.network_file, form.layer_file)]
    result = {"sizes": {name: asdict(size) for name, size in sizes.items()}, "layers": records}
    return workspace.write_stamp(folder, STEP, key(card, trained), files, result)


def sizes(stamp: Stamp) -> dict[str, GraphSize]:
    """The sizes that an export noted, by form."""
    return {name: GraphSize(**size) for name, size in stamp.result["sizes"].items()}


def layer_model(tf: Any, model: Any) -> Any:
    """The Keras model that is the normalization layer of another one, with its weights."""
    layer = model.get_layer(NORM_LAYER)
    inputs = tf.keras.Input(layer.get_input_shape_at(0)[1:], name="activations")
    return tf.keras.Model(inputs, layer(inputs), name=f"{model.name}_layer")


def _without_norm(tf: Any, model: Any) -> Any:
    kept = [layer for layer in model.layers if layer.name != NORM_LAYER]
    return tf.keras.Sequential([tf.keras.Input(model.input_shape[1:]), *kept])


def plain(model: Any) -> onnx.ModelProto:
    """What tf2onnx makes of a Keras model by itself."""
    import tf2onnx

    proto: onnx.ModelProto
    proto, _ = tf2onnx.convert.from_keras(model, opset=OPSET)
    return proto


def _write(proto: onnx.ModelProto, path: Path) -> None:
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:
        raise PipelineError(f"{path}: not a valid ONNX model: {error}") from error
    with workspace.replacing(path) as aside:
        onnx.save(proto, os.fspath(aside))
