"""Fusions: what stands round a normalization node goes into it.

Each rule is a file, and a class of three methods: what it finds, why it may not, what it puts
there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import onnx.checker

from onnxnorm import arguments
from onnxnorm.errors import ModelFileError
from onnxnorm.graph import functions, order, records, renamed
from onnxnorm.graph.fusion.activation import Activation
from onnxnorm.graph.fusion.residual import Residual
from onnxnorm.graph.fusion.residual_before import ResidualBefore
from onnxnorm.graph.fusion.rule import Rule, describe, has_activation
from onnxnorm.graph.fusion.scope import Scope
from onnxnorm.graph.fusion.shapes import Shapes
from onnxnorm.graph.nodes import (
    all_graphs,
    copy_fields,
    drop_unused_initializers,
    subgraphs,
)
from onnxnorm.graph.skeleton import skeleton
from onnxnorm.modelfile import load
from onnxnorm.opset import RESIDUAL, checks, operator_of

# An activation ends what a node can take in behind it; what stands before it comes last.
RULES: Sequence[Rule[Any]] = (Activation(), Residual(), ResidualBefore())


@dataclass(frozen=True)
class NodeFusion:
    """What became of the neighbours of one normalization node.

    Attributes:
        node: its name.
        operator: its operator.
        fused: what it took in.
        not_fused: what was left beside it, and why.
    """

    node: str
    operator: str
    fused: tuple[str, ...]
    not_fused: tuple[str, ...]


def optimize(
    model: str | os.PathLike[str] | onnx.ModelProto, this_cpu: bool = False
) -> onnx.ModelProto:
    """The model with activations and residuals taken into its normalization nodes.

    The nodes have function bodies with all that they took in, so that the model still runs without
    the native library. A model without such nodes comes back as it is.

    Args:
        model: an ONNX file, read with its external tensors, or a loaded model, which is not
            changed.
        this_cpu: also let the nodes work in the layout in which ONNX Runtime keeps convolutions on
            this kind of CPU. The model then runs on such CPUs alone, with this release of it and
            the native library.

    Raises:
        ModelFileError: the file is missing, damaged or not an ONNX file, the model is not valid,
            or with ``this_cpu`` made so before.
        RuntimeLibraryError: with ``this_cpu``, the native library is missing or does not load.
    """
    if not isinstance(model, onnx.ModelProto):
        model = arguments.path("optimize", "model", model, "an onnx.ModelProto")
    this_cpu = arguments.flag("optimize", "this_cpu", this_cpu)
    optimized = _optimized(model)
    if not this_cpu:
        return optimized
    from onnxnorm.this_cpu import for_this_cpu

    if isinstance(model, onnx.ModelProto):
        return for_this_cpu(optimized)[0]
    return for_this_cpu(optimized, os.fspath(model))[0]


def _optimized(model: str | os.PathLike[str] | onnx.ModelProto) -> onnx.ModelProto:
    if not isinstance(model, onnx.ModelProto):
        loaded = load(model)
        fuse(loaded, os.fspath(model))
        return loaded
    if not (has_nodes(model) or renamed.any_in(model)):
        return model
    copy = onnx.ModelProto()
    copy_fields(model, copy, leave="graph")
    copy_fields(model.graph, copy.graph, leave="")
    fuse(copy)
    return copy


def has_nodes(model: onnx.ModelProto) -> bool:
    """Whether the model has nodes of the ``onnxnorm`` domain, in functions of others too."""
    return any(True for _ in functions.our_nodes(model))


def fuse(model: onnx.ModelProto, source: str = "the model") -> tuple[NodeFusion, ...]:
    """Optimizes a model in place, and puts its nodes in topological order; see `optimize`.

    Args:
        model: changed in place.
        source: what an error calls it.

    Returns:
        one record for each normalization node, in the order of the graph.

    Raises:
        ModelFileError: the model is not valid, nodes of ours are not what the domain says, or the
            nodes form a cycle.
    """
    renamed.give_back(model)
    if not has_nodes(model):
        return ()
    checks.check(model, source)
    checks.drop_omitted(model)
    order.sort(model, source)
    _check(model, source)
    fusions = _fuse_graph(model.graph, Shapes(model), {})
    functions.complete(model)
    for graph in all_graphs(model.graph):
        drop_unused_initializers(graph)
    records.note_fusions(
        model,
        {fusion.node: fusion.fused for fusion in fusions},
        {fusion.node: fusion.not_fused for fusion in fusions},
    )
    return tuple(fusions)


def _check(model: onnx.ModelProto, source: str) -> None:
    try:
        onnx.checker.check_model(skeleton(model))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ModelFileError(f"{source}: not valid ONNX: {reason}") from error
    for node in filter(_is_ours, (n for graph in all_graphs(model.graph) for n in graph.node)):
        if not 3 <= len(node.input) <= 4 or len(node.output) != 1:
            raise ModelFileError(
                f"{source}: {node.op_type} {node.name!r} has {len(node.input)} inputs and "
                f"{len(node.output)} outputs; accepted: X, scale, bias and perhaps a residual, "
                "and one output"
            )


def _fuse_graph(
    graph: onnx.GraphProto, shapes: Shapes, outer: Mapping[str, onnx.TensorProto]
) -> list[NodeFusion]:
    scope = Scope(graph, shapes, outer)
    for place in scope.places:
        if _has_old_name(scope.node(place)):
            scope.node(place).op_type = f"{RESIDUAL}{scope.node(place).op_type}"
    # Of two norms that are added, the later one can take in the other as its residual.
    places = [place for place in scope.places if _is_ours(scope.node(place))]
    by_output = dict(_fuse_node(scope, place) for place in reversed(places))
    scope.finish()
    in_order: list[NodeFusion] = []
    for node in graph.node:
        if _is_ours(node):
            in_order.append(by_output[node.output[0]])
        for inner in subgraphs(node):
            in_order += _fuse_graph(inner, shapes, scope.constants)
    return in_order


def _fuse_node(scope: Scope, place: int) -> tuple[str, NodeFusion]:
    """Applies the rules to one node until none applies any more."""
    fused: list[str] = []
    refused: dict[str, None] = {}
    waiting = list(RULES)
    while waiting:
        rule = waiting.pop(0)
        for match in rule.pattern(scope, place):
            reason = rule.check(scope, place, match)
            if reason:
                refused[f"{match.told}: {reason}"] = None
                continue
            place = scope.replace({place, *match.places}, rule.rewrite(scope, place, match))
            fused.append(match.told)
            refused.clear()
            waiting = list(RULES)
            break
    node = scope.node(place)
    if not fused and not refused and not _has_taken_in(node):
        refused[_neighbours(scope, node.output[0])] = None
    return node.output[0], NodeFusion(node.name, node.op_type, tuple(fused), tuple(refused))


def _neighbours(scope: Scope, value: str) -> str:
    """What stands behind a node that took in nothing."""
    if value in scope.outputs:
        return "its result is an output of the graph"
    readers = [scope.node(reader) for reader in scope.readers(value)]
    if not readers:
        return "nothing reads its result"
    listed = " and ".join(map(describe, readers))
    if all(_is_ours(reader) and value in reader.input[3:] for reader in readers):
        return f"its result is the residual of {listed}"
    return f"{listed} behind it: neither an activation nor an addition"


def _has_taken_in(node: onnx.NodeProto) -> bool:
    return len(node.input) > 3 or has_activation(node)


def _has_old_name(node: onnx.NodeProto) -> bool:
    """Whether a node with a residual has the name of the operator without, as in older files."""
    is_residual = node.op_type.startswith(RESIDUAL)
    return _is_ours(node) and len(node.input) > 3 and not is_residual


def _is_ours(node: onnx.NodeProto) -> bool:
    return operator_of(node) is not None
