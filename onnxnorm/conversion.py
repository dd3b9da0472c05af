"""From a Keras model to ONNX, every known normalization layer as one node."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import onnx

from onnxnorm import (
    arguments,
    bfloat16,
    capture,
    complex_numbers,
    concrete,
    dilated_convolutions,
    loops,
    modelfile,
    refusal,
    standing,
    tensor_lists,
)
from onnxnorm.errors import ConversionError, MissingDependencyError
from onnxnorm.frameworks import KnownLayer
from onnxnorm.frameworks.formula import class_path
from onnxnorm.freezing import freeze, has_bfloat16
from onnxnorm.graph import (
    bodies,
    dense,
    divisions,
    einsum,
    float64,
    invariants,
    layout,
    native,
    readable_names,
    records,
    rounding,
    scan,
    source,
    versions,
)
from onnxnorm.graph.nodes import all_graphs, attributes_of, keep_only, set_attributes
from onnxnorm.graph.records import LayerRecord, Lowered
from onnxnorm.json_text import json_text
from onnxnorm.opset import DOMAIN, OPERATORS, VERSION, function
from onnxnorm.tf_ops import HANDLERS, TABLE_HANDLERS
from onnxnorm.weights import Weights, settle

Lowering = Literal["custom", "native"]

# CastLike, on which the function bodies rest, came with 15.
_TF2ONNX_NEWEST = 18
OPSETS = range(15, versions.NEWEST + 1)


_CALL = "onnxnorm_call"

# Held while a model's layers leave markers. Also, tf2onnx keeps functions of the model under
# conversion in a table of its module.
ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True)
class Conversion:
    """A converted model and what became of its normalization layers.

    Attributes:
        model: the model with its weights. With more than 2 GB of them it is whole in memory, but
            too large for ``SerializeToString`` and what rests on it: `save` it, and hand on the
            file.
        layers: one record for each normalization layer.
    """

    model: onnx.ModelProto
    layers: tuple[LayerRecord, ...]

    def __post_init__(self) -> None:
        own = type(self).__name__
        arguments.instance(own, "model", self.model, onnx.ModelProto, "an onnx.ModelProto")
        layers = arguments.sequence(own, "layers", self.layers, "a tuple of LayerRecord")
        for layer in layers:
            arguments.instance(own, "layers", layer, LayerRecord, "a tuple of LayerRecord")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model file; an existing file is replaced only once the new one is whole.

        More than 2 GB of weights go to ``<path>.data`` beside it.

        Raises:
            ModelFileError: the path cannot be written to.
        """
        modelfile.save(self.model, arguments.path("save", "path", path))

    def to_json(self) -> str:
        """The layer records as JSON."""
        return json_text({"layers": [layer.to_dict() for layer in self.layers]})


def convert(
    model: Any,
    lowering: Lowering = "custom",
    opset: int = 18,
    input_signature: Any = None,
    safe_mode: bool = True,
) -> Conversion:
    """Converts a Keras model to ONNX with every known normalization layer as one node.

    Args:
        model: a Keras model, or the path of a ``.keras`` or ``.h5`` file or SavedModel directory.
        lowering: ``"custom"``: one node of the ``onnxnorm`` domain per layer, with the operator's
            function body in the file. ``"native"``: standard operators only.
        opset: version of the standard ONNX operators, 15 to 24.
        input_signature: ``tf.TensorSpec`` objects or arrays in the structure of the model's
            inputs; default: the inputs that the model was built for.
        safe_mode: refuse files that name anything but what Keras publishes for models, TensorFlow
            functions without side effects and what this process has registered.

    Raises:
        ConversionError: the model, one of its layers or an argument cannot be converted.
        ModelFileError: the file cannot be loaded.
        MissingDependencyError: TensorFlow or tf2onnx is not installed.
    """
    arguments.text("convert", "lowering", lowering)
    opset = arguments.integer("convert", "opset", opset)
    safe_mode = arguments.flag("convert", "safe_mode", safe_mode)
    if lowering not in get_args(Lowering):
        raise ConversionError(f"lowering {lowering!r}: one of {', '.join(get_args(Lowering))}")
    if opset not in OPSETS:
        raise ConversionError(f"opset {opset}: from {OPSETS[0]} to {OPSETS[-1]}")
    if arguments.is_path(model):
        from onnxnorm.frameworks.files import load

        model = load(Path(arguments.path("convert", "model", model)), safe_mode=safe_mode)
    with ONE_AT_A_TIME:
        traced = capture.trace(model, input_signature)
        refusal.check_layers(traced.layers)
        refusal.check_state(traced)
        proto, weights = _to_onnx(traced, min(opset, _TF2ONNX_NEWEST))
    invariants.free_invariant_states(proto.graph)
    scan.make_scans(proto)
    # Standard operators for group and instance normalization want the channels first.
    over_axes = {name for name, operator in OPERATORS.items() if "axes" in operator.attributes}
    layout.make_axes_trailing(proto, OPERATORS if lowering == "custom" else over_axes)
    refusal.check_converted(proto, traced)
    float64.lower(proto, lambda operation: refusal.at_layer(operation, traced.layers))
    # The installed onnx checks what it knows.
    versions.raise_to(proto, min(opset, onnx.defs.onnx_opset_version()))
    readable_names.name_values(proto)
    readable_names.name_dimensions(proto)
    source.write(proto, traced.model.name, _versions())
    records.note_axes(proto)
    standing.note(proto, traced)
    if lowering == "native":
        proto = native.lower(proto)
    _check_model(proto)
    weights.attach(proto)
    versions.raise_to(proto, opset)
    return Conversion(proto, records.read(proto))


@dataclass(frozen=True)
class _Call:
    """One call of a layer: its marker, and the shape that it normalizes where that is known."""

    marker: capture.Marker
    input_shape: tuple[int | None, ...] | None


@dataclass
class Hook:
    """What tf2onnx is given to know the markers; notes the nodes that it makes of them.

    Attributes:
        known: the layers that leave markers.
        layers: every layer of the model.
        calls: those that nodes were made of, equal ones once. Until the model is complete each
            node has its call's position here as an attribute, since tf2onnx renames and merges.
    """

    known: Sequence[KnownLayer]
    layers: Sequence[Any]
    calls: list[_Call] = field(default_factory=list)

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of ``tf2onnx.convert.from_keras``."""
        from tf2onnx import optimizer

        table = OrderedDict[str, type]()
        table["unique_names"] = bodies.unique_names_optimizer()
        # Before the Transposes move: they see through a MatMul, but not through what shapes take.
        table["dense"] = dense.dense_optimizer()
        table["einsum"] = einsum.einsum_optimizer()
        table.update(optimizer._get_optimizers())
        table["optimize_transpose"] = layout.transpose_optimizer()
        table["complete"] = _completer(self)
        return {
            "custom_op_handlers": {
                op: (handler, [])
                for op, handler in {
                    **HANDLERS,
                    capture.MARKER_OP: self.make_node,
                    bfloat16.MARK_OP: bfloat16.keep_mark,
                }.items()
            },
            "extra_opset": [onnx.helper.make_opsetid(DOMAIN, VERSION)],
            "optimizers": table,
        }

    def make_node(self, graph: Any, node: Any, name: str, args: Any) -> None:
        """Handler of tf2onnx for the marker operation."""
        marker = capture.read_marker(node.get_attr_str("token"))
        if marker is None:
            raise ConversionError(
                f"operation {name!r} runs Python code (tf.py_function or tf.numpy_function), "
                "which has no ONNX form"
            )
        shape, dtype = graph.get_shape(node.input[0]), graph.get_dtype(node.input[0])
        inputs, outputs = list(node.input), list(node.output)
        graph.remove_node(node.name)
        sizes = shape and tuple(None if size < 0 else size for size in shape)
        call = _Call(marker, sizes)
        if call not in self.calls:
            self.calls.append(call)
        operator = marker.spec.operator
        graph.make_node(
            f"{DOMAIN}.{operator}",
            inputs,
            attr={
                **OPERATORS[operator].attributes_of(marker.spec),
                _CALL: self.calls.index(call),
            },
            outputs=outputs,
            name=name,
            shapes=[shape],
            dtypes=[dtype],
        )

    def complete(self, model: onnx.ModelProto) -> None:
        """Names the nodes after their layers; gives the model function bodies and layer records."""
        made = self._name_nodes(model)
        attach_functions(model)
        found = [
            _layer_record(known, [m for m in made if m[0].marker.layer == index])
            for index, known in enumerate(self.known)
            if not known.measured or any(call.marker.layer == index for call, _ in made)
        ]
        others = self._unknown_layers(model, {record.name for record in found})
        records.write(model, (*found, *others))
        records.note_axes(model)

    def _name_nodes(self, model: onnx.ModelProto) -> list[tuple[_Call, str]]:
        """The calls that became nodes, in the order of the graph, with the nodes' names."""
        nodes = [node for graph in all_graphs(model.graph) for node in graph.node]
        taken = {node.name for node in nodes if node.op_type not in layout.TYPES}
        made = []
        for node in nodes:
            if node.op_type not in layout.TYPES:
                continue
            attributes = attributes_of(node)
            call = self.calls[attributes.pop(_CALL)]
            set_attributes(node, attributes)
            node.domain, node.op_type = DOMAIN, call.marker.spec.operator
            name = call.marker.spec.layer_name
            names = itertools.chain([name], (f"{name}_{count}" for count in itertools.count(1)))
            node.name = next(candidate for candidate in names if candidate not in taken)
            taken.add(node.name)
            made.append((call, node.name))
        return made

    def _unknown_layers(self, model: onnx.ModelProto, known: Set[str]) -> Iterator[LayerRecord]:
        """Records of layers that normalize, by the operations that they left, unknown to us."""
        places: dict[str, list[str]] = {}
        for node in divisions.by_root_of_sums(model):
            places.setdefault(refusal.layer_at(node.name, self.layers), []).append(node.name)
        classes = {layer.name: class_path(layer) for layer in self.layers}
        measured = {layer.layer.name: layer.notes for layer in self.known if layer.measured}
        for name, nodes in places.items():
            if name not in known:
                why = "".join(f" ({note})" for note in dict.fromkeys(measured.get(name, ())))
                reason = (
                    f"its operations divide by a root of sums ({', '.join(nodes[:3])}), and its "
                    f"class is no known normalization{why}: onnxnorm.adapter makes it known"
                )
                yield LayerRecord(name, classes.get(name, ""), None, "decomposed", (), reason)


def _completer(hook: Hook) -> type:
    """An entry for tf2onnx's optimizer table, after which graphs make complete models."""
    from tf2onnx.graph import Graph
    from tf2onnx.optimizer.optimizer_base import GraphOptimizerBase

    class CompleteGraph(Graph):  # type: ignore[misc] # untyped
        def make_model(self, *args: Any, **kwargs: Any) -> onnx.ModelProto:
            model: onnx.ModelProto = super().make_model(*args, **kwargs)
            hook.complete(model)
            return model

    class Completer(GraphOptimizerBase):  # type: ignore[misc] # untyped
        def _optimize(self, graph: Any) -> Any:
            if type(graph) is Graph:
                graph.__class__ = CompleteGraph
            return graph

    return Completer


def attach_functions(model: onnx.ModelProto) -> None:
    """Gives the model the function body of every ``onnxnorm`` operator that it uses."""
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    used = {
        node.op_type
        for graph in all_graphs(model.graph)
        for node in graph.node
        if node.domain == DOMAIN
    }
    if used and opset < OPSETS[0]:
        raise ConversionError(f"opset {opset}: onnxnorm operators need {OPSETS[0]} or later")
    # Defaults of function attributes came with version 9 of the file format.
    model.ir_version = max(model.ir_version, 9)
    del model.functions[:]
    model.functions.extend(function(OPERATORS[name], opset) for name in sorted(used))
    if not used:
        keep_only(model.opset_import, lambda entry: entry.domain != DOMAIN)


def _to_onnx(traced: capture.Trace, opset: int) -> tuple[onnx.ModelProto, Weights]:
    """The model in ONNX, with references to its large weights, and those weights."""
    tf = capture.tensorflow()
    tf2onnx = import_tf2onnx()
    function = concrete.without_compilation(tf, traced.function)
    function = concrete.without_assignments(tf, function)
    inputs = [tensor.name for tensor in _explicit_inputs(function)]
    outputs = [tensor.name for tensor in function.outputs]
    renamed = dict(zip(inputs, traced.input_names, strict=True))
    renamed |= dict(zip(outputs, traced.output_names, strict=True))
    arguments = Hook(traced.known, traced.layers).arguments()
    weights = Weights()
    with (
        tf.device("/cpu:0"),
        _quiet("tf2onnx"),
        _quiet("tensorflow"),
        refusal.failing_operations() as failing,
        weights.referenced(tf2onnx),
    ):
        try:
            frozen = freeze(tf, tf2onnx.tf_loader, traced.model, function, inputs, outputs)
            refusal.check_traced(frozen.graph_def, outputs, traced)
            dilated_convolutions.merge(tf, frozen.graph_def)
            tensor_lists.replace(tf, frozen.graph_def, [*inputs, *outputs])
            complex_numbers.in_real_parts(
                tf,
                frozen.graph_def,
                outputs,
                lambda operation: refusal.at_layer(operation, traced.layers),
            )
            bfloat16.in_float32(tf, frozen.graph_def)
            loops.keep_float64(tf, frozen.graph_def)
            for op, handler in TABLE_HANDLERS.items():
                arguments["custom_op_handlers"][op] = (handler, [op, frozen.tables])
            # The steps of process_tf_graph, with the weights made constants after the first one.
            tf2onnx.tfonnx.clear_functions()
            with tf.Graph().as_default() as graph:
                graph_def = concrete.with_lookup_shapes(tf, frozen.graph_def)
                tf.graph_util.import_graph_def(graph_def, name="")
                main, functions = tf2onnx.tfonnx.graphs_from_tf(graph, inputs, outputs)
                for part in (main, *functions):
                    part.set_config(opset=opset, extra_opset=arguments["extra_opset"])
                weights.into_constants(main, frozen.weights)
                onnx_graph = tf2onnx.tfonnx.process_graphs(
                    main,
                    functions,
                    custom_op_handlers=arguments["custom_op_handlers"],
                    inputs_as_nchw=[],
                    outputs_as_nchw=[],
                    continue_on_error=False,
                    custom_rewriter=None,
                    initialized_tables=frozen.tables,
                    tensors_to_rename=renamed,
                )
            onnx_graph = tf2onnx.optimizer.optimize_graph(
                onnx_graph, catch_errors=False, optimizers=arguments["optimizers"]
            )
        except Exception as error:
            at = refusal.at_layer(failing[0], traced.layers) if failing else ""
            if isinstance(error, ConversionError):
                raise ConversionError(f"{at}{error}") from error
            refusal.check_traced(function.graph.as_graph_def(), outputs, traced)
            raise ConversionError(
                f"model {traced.model.name!r}: {at}tf2onnx failed: {type(error).__name__}: {error}"
            ) from error
        model: onnx.ModelProto = onnx_graph.make_model("", graph_name=traced.model.name)
    settle(model)
    if has_bfloat16(tf, function):
        weights.attach(model)
        rounding.store_bfloat16(model, bfloat16.MARK_OP, _of_bfloat16(tf, function, renamed))
    weights.attach(model, _read_by_passes(model))
    return model, weights


def _versions() -> dict[str, str]:
    tf = capture.tensorflow()
    keras = sys.modules[tf.keras.Model.__module__.partition(".")[0]]
    found = {"keras": keras, "tensorflow": tf, "tf2onnx": import_tf2onnx()}
    return {name: str(module.__version__) for name, module in found.items()}


def _read_by_passes(model: onnx.ModelProto) -> set[str]:
    """Names of the tensors that passes over the graph compute with."""
    graphs = list(all_graphs(model.graph))
    double = onnx.TensorProto.DOUBLE
    return {t.name for g in graphs for t in g.initializer if t.data_type == double} | {
        name
        for graph in graphs
        for node in graph.node
        if node.domain == DOMAIN
        for name in node.input[1:]
    }


def _of_bfloat16(tf: Any, function: Any, names: Mapping[str, str]) -> set[str]:
    """Which of the function's inputs and outputs are bfloat16, by their ``names`` in the model."""
    tensors = (*_explicit_inputs(function), *function.outputs)
    return {names[tensor.name] for tensor in tensors if tensor.dtype == tf.bfloat16}


def _explicit_inputs(concrete_function: Any) -> Sequence[Any]:
    """The function's own inputs, without the variables and constants that it captured."""
    count = len(concrete_function.inputs) - len(concrete_function.captured_inputs)
    inputs: Sequence[Any] = concrete_function.inputs[:count]
    return inputs


def _check_model(model: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise ConversionError(f"the converted model is not valid ONNX: {error}") from error


def _layer_record(known: KnownLayer, made: Sequence[tuple[_Call, str]]) -> LayerRecord:
    name, layer_class = known.layer.name, class_path(known.layer)
    if known.overridden:
        reason = f"the subclass overrides {', '.join(known.overridden)}"
        return LayerRecord(name, layer_class, None, "decomposed", (), reason)
    notes = "; ".join(dict.fromkeys(known.notes))
    if not made:
        lowering: Lowered = "unused"
        if notes:
            lowering = "folded" if known.folded else "decomposed"
        reason = notes or "not part of the model's inference"
        return LayerRecord(name, layer_class, None, lowering, (), reason)
    return LayerRecord(
        name,
        layer_class,
        made[0][0].marker.spec,
        "custom",
        tuple(node for _, node in made),
        reason=notes and f"other calls of it: {notes}",
        input_shapes=tuple(call.input_shape for call, _ in made if call.input_shape is not None),
    )


@contextmanager
def _quiet(logger_name: str) -> Iterator[None]:
    """What the libraries log of their work is either of no use or raised as an error of ours."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def import_tf2onnx() -> Any:
    """The ``tf2onnx`` package with the modules that conversion needs.

    Raises:
        MissingDependencyError: it, or TensorFlow, is not installed.
    """
    capture.tensorflow()
    try:
        import tf2onnx
        import tf2onnx.optimizer
        import tf2onnx.tf_loader
        import tf2onnx.tfonnx
    except ImportError as error:
        raise MissingDependencyError(
            f"tf2onnx cannot be imported ({error}): install 'onnxnorm[tfa]' or 'onnxnorm[keras]'"
        ) from error
    return tf2onnx
