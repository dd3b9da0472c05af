"""What became of each normalization layer, kept in the ONNX model itself as metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import onnx

from onnxnorm import arguments
from onnxnorm.errors import ArgumentError, ModelFileError
from onnxnorm.graph.nodes import all_graphs, attributes_of, keep_only
from onnxnorm.opset import DOMAIN
from onnxnorm.spec import NormSpec

METADATA_KEY = "onnxnorm.layers"

Lowered = Literal["custom", "native", "folded", "decomposed", "unused"]
Dimension = int | str | None


@dataclass(frozen=True)
class LayerRecord:
    """What became of one normalization layer.

    Attributes:
        name: the layer's name.
        layer_class: qualified name of its class.
        spec: what it computes; None where it is not expressed in the operator domain.
        lowering: ``"custom"``: a node of the ``onnxnorm`` domain for each call; ``"native"``:
            standard operators; ``"folded"``: part of another layer's weights; ``"decomposed"``:
            converted operation by operation; ``"unused"``: the model's inference does without it.
        nodes: names of its nodes in the graph, several for a layer that is called several times;
            of a folded layer those whose weights it is part of.
        reason: why it is folded, decomposed or unused; empty otherwise.
        input_shapes: shapes of the inputs that it normalizes, one for each call, None for an
            unknown size.
        node_axes: axes that the nodes normalize, one tuple for each call, where the conversion may
            have transposed the layer's input: ``spec`` has the layer's own axes.
        fused: what its nodes compute beside it, since `optimize` put it there.
        not_fused: what `optimize` found behind its nodes and had to leave there, and why.
    """

    name: str
    layer_class: str
    spec: NormSpec | None
    lowering: Lowered
    nodes: tuple[str, ...]
    reason: str = ""
    input_shapes: tuple[tuple[Dimension, ...], ...] = ()
    fused: tuple[str, ...] = ()
    not_fused: tuple[str, ...] = ()
    node_axes: tuple[tuple[int, ...], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The record in types that JSON knows."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> LayerRecord:
        """The record that `to_dict` wrote.

        Raises:
            ArgumentError: it is no record.
        """
        called, wanted = (
            f"{cls.__name__}.from_dict",
            "the fields of a record, as to_dict gives them",
        )
        given = arguments.mapping(called, "fields", fields, wanted)
        if not {"name", "layer_class", "spec", "lowering", "nodes"} <= given.keys():
            arguments.refuse(called, "fields", fields, wanted)
        arguments.choice(called, "lowering", fields["lowering"], get_args(Lowered))
        spec = fields["spec"]
        return cls(
            name=_text(fields["name"]),
            layer_class=_text(fields["layer_class"]),
            spec=None if spec is None else NormSpec.from_json(json.dumps(spec)),
            lowering=fields["lowering"],
            nodes=_texts(fields["nodes"]),
            reason=_text(fields.get("reason", "")),
            input_shapes=tuple(
                tuple(_list(shape)) for shape in _list(fields.get("input_shapes", []))
            ),
            fused=_texts(fields.get("fused", [])),
            not_fused=_texts(fields.get("not_fused", [])),
            node_axes=tuple(
                arguments.integers(called, "node_axes", axes)
                for axes in _list(fields.get("node_axes", []))
            ),
        )


def read(model: onnx.ModelProto, name: str = "the model") -> tuple[LayerRecord, ...]:
    """The records in the model; none for a model from elsewhere.

    Args:
        model: the model.
        name: what an error calls it.

    Raises:
        ModelFileError: there are records, but not such as `write` writes.
    """
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            try:
                return tuple(
                    LayerRecord.from_dict(fields) for fields in _list(json.loads(entry.value))
                )
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise ModelFileError(
                    f"{name}: the metadata {METADATA_KEY!r} is no list of layer records "
                    f"({type(error).__name__}: {error})"
                ) from error
    return ()


def write(model: onnx.ModelProto, records: Iterable[LayerRecord]) -> None:
    """Puts the records into the model, in place of those that it has."""
    text = json.dumps([record.to_dict() for record in records])
    keep_only(model.metadata_props, lambda entry: entry.key != METADATA_KEY)
    model.metadata_props.add(key=METADATA_KEY, value=text)


def sort(model: onnx.ModelProto) -> None:
    """Puts the model's records in the order in which their nodes stand in the graph, in place.

    Those without a node of the ``onnxnorm`` domain come last.
    """
    nodes = (node for graph in all_graphs(model.graph) for node in graph.node)
    order = {node.name: place for place, node in enumerate(nodes) if node.domain == DOMAIN}

    def place(record: LayerRecord) -> float:
        return min((order.get(node, math.inf) for node in record.nodes), default=math.inf)

    write(model, sorted(read(model), key=place))


def note_axes(model: onnx.ModelProto) -> None:
    """Notes in the model's records which axes their nodes of the ``onnxnorm`` domain normalize."""
    axes: dict[str, tuple[int, ...]] = {}
    for node in (n for graph in all_graphs(model.graph) for n in graph.node if n.domain == DOMAIN):
        given = attributes_of(node)
        axes[node.name] = tuple(sorted(given["axes"] if "axes" in given else [given["axis"]]))

    def changed(record: LayerRecord) -> LayerRecord:
        return replace(record, node_axes=tuple(axes[n] for n in record.nodes if n in axes))

    _rewrite(model, changed)


def note_lowered(model: onnx.ModelProto, became: Mapping[str, Sequence[str]]) -> None:
    """Keeps the model's records true after nodes became standard operators.

    Args:
        model: changed in place; a model without records stays as it is.
        became: name of a former node to the names of the nodes in its place.
    """

    def changed(record: LayerRecord) -> LayerRecord:
        if not any(node in became for node in record.nodes):
            return record
        nodes = tuple(new for node in record.nodes for new in became.get(node, (node,)))
        return replace(record, nodes=nodes, lowering="native")

    _rewrite(model, changed)


def note_fusions(
    model: onnx.ModelProto,
    fused: Mapping[str, Sequence[str]],
    not_fused: Mapping[str, Sequence[str]],
) -> None:
    """Keeps the model's records true after nodes took in others.

    Args:
        model: changed in place; a model without records stays as it is.
        fused: node name to what it took in, such as ``"Relu"`` or ``"Add 'add_1'"``; added to what
            the record says already.
        not_fused: node name to what was left behind it and why; in place of what the record says.
    """

    def changed(record: LayerRecord) -> LayerRecord:
        return replace(
            record,
            fused=record.fused + _notes(record, fused),
            not_fused=_notes(record, not_fused),
        )

    _rewrite(model, changed)


def _notes(record: LayerRecord, by_node: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    several = len(record.nodes) > 1
    return tuple(
        f"{node}: {note}" if several else note
        for node in record.nodes
        for note in by_node.get(node, ())
    )


def _rewrite(model: onnx.ModelProto, changed: Callable[[LayerRecord], LayerRecord]) -> None:
    try:
        records = read(model)
    except ModelFileError:
        return  # not ours to mend; `inspect` tells of it
    if records:
        write(model, map(changed, records))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ArgumentError(f"{arguments.shown(value)} in the place of a text in a record's fields")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise ArgumentError(f"{arguments.shown(value)} in the place of a list in a record's fields")
    return list(value)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(_text, _list(value)))
