"""What became of each normalization layer, kept in the ONNX model itself as metadata.

The nodes of a layer carry its record; records of layers without nodes are metadata of the model.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar, get_args

import onnx

from onnxnorm import arguments
from onnxnorm.errors import ArgumentError, ModelFileError
from onnxnorm.graph.nodes import all_graphs, attributes_of, keep_only
from onnxnorm.limits import RECORD_CHARACTERS
from onnxnorm.opset import DOMAIN
from onnxnorm.spec import NormSpec

METADATA_KEY = "onnxnorm.layers"
"""Begins the keys of a model's metadata; the whole key in files of earlier releases."""

NODE_KEY = "onnxnorm.layer"
"""Key of a node's metadata."""

# The version of the file format that has metadata of nodes.
_NODE_METADATA = 10
# Fields with one value for each call, and with notes that can begin with a node's name.
_OF_ONE_CALL, _NOTES = ("input_shapes", "node_axes"), ("fused", "not_fused")
# What each node of a layer has of its own.
_OF_ONE_NODE: dict[str, Any] = dict.fromkeys(("nodes", *_OF_ONE_CALL, *_NOTES), ())

Lowered = Literal["custom", "native", "folded", "decomposed", "unused"]
Dimension = int | str | None
_Record = TypeVar("_Record")


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
                tuple(map(_dimension, _list(shape)))
                for shape in _list(fields.get("input_shapes", []))
            ),
            fused=_texts(fields.get("fused", [])),
            not_fused=_texts(fields.get("not_fused", [])),
            node_axes=tuple(
                arguments.integers(called, "node_axes", axes)
                for axes in _list(fields.get("node_axes", []))
            ),
        )


def read(model: onnx.ModelProto, name: str = "the model") -> tuple[LayerRecord, ...]:
    """The records in the model, in the order of their first nodes in the graph.

    Those of folded layers and those without a node in the graph come last. A model from elsewhere
    has no records.

    Args:
        model: the model.
        name: what an error calls it.

    Raises:
        ModelFileError: there are records, but not such as `write` writes.
    """
    places: dict[str, int] = {}
    layers: dict[tuple[_Layer, int], list[_Part]] = defaultdict(list)
    copies: Counter[tuple[_Layer, int]] = Counter()
    for place, node in enumerate(_all_nodes(model)):
        places.setdefault(node.name, place)
        for entry in filter(_is_of_node, node.metadata_props):
            where = f"{name}: node {node.name!r}"
            for part in _parsed(entry, where, partial(_Part.from_dict, place, node.name)):
                # Copies of a layer, by whatever tool, each have one node at every position.
                layers[part.layer, copies[part.layer, part.position]].append(part)
                copies[part.layer, part.position] += 1
    found: list[tuple[LayerRecord, float]] = [
        (_joined(parts), parts[0].place) for parts in layers.values()
    ]
    for entry in filter(_is_of_model, model.metadata_props):
        for record in _parsed(entry, name, LayerRecord.from_dict):
            known = [places[node] for node in record.nodes if node in places]
            found.append((record, min(known, default=math.inf)))
    found.sort(key=lambda each: (each[0].lowering == "folded", each[1]))
    return tuple(record for record, _ in found)


def write(model: onnx.ModelProto, records: Iterable[LayerRecord]) -> None:
    """Puts the records into the model, in place of those that it has.

    Each node of a layer carries the layer's record, so that the record stays with the node where
    another tool renames nodes, joins files or takes a part of one. A record without a node in the
    graph is metadata of the model.
    """
    nodes: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    # Of several nodes with one name, those that had records are meant first, and of nodes without
    # a name only those.
    for node in sorted(_all_nodes(model), key=_has_no_record):
        if node.name or not _has_no_record(node):
            nodes[node.name].append(node)
        keep_only(node.metadata_props, lambda entry: not _is_of_node(entry))
    keep_only(model.metadata_props, lambda entry: not _is_of_model(entry))
    carried: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    times: Counter[str] = Counter()
    others: list[dict[str, Any]] = []
    room = RECORD_CHARACTERS
    for record in records:
        present = [part for part in _split(record) if part[0] in nodes]
        size = len(json.dumps(present[0][1])) * len(present) if present else 0
        if not present or size > room:
            others.append(record.to_dict())
            continue
        room -= size
        for node_name, fields in present:
            carried[node_name, min(times[node_name], len(nodes[node_name]) - 1)].append(fields)
            times[node_name] += 1
    for (node_name, which), parts in carried.items():
        nodes[node_name][which].metadata_props.add(key=NODE_KEY, value=json.dumps(parts))
    if others:
        text = json.dumps(others)
        # Named after the content: tools that join files refuse one key with two values.
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        model.metadata_props.add(key=f"{METADATA_KEY}.{digest}", value=text)
    model.ir_version = max(model.ir_version, _NODE_METADATA)


def carry_over(model: onnx.ModelProto, before: onnx.ModelProto) -> None:
    """Gives a model that ONNX Runtime rebuilt the records of the former, by the nodes' names."""
    _rewrite(model, before, lambda record: record)


def note_axes(model: onnx.ModelProto) -> None:
    """Notes in the model's records which axes their nodes of the ``onnxnorm`` domain normalize."""
    axes: dict[str, tuple[int, ...]] = {}
    for node in filter(lambda node: node.domain == DOMAIN, _all_nodes(model)):
        given = attributes_of(node)
        axes[node.name] = tuple(sorted(given["axes"] if "axes" in given else [given["axis"]]))

    def changed(record: LayerRecord) -> LayerRecord:
        return replace(record, node_axes=tuple(axes[n] for n in record.nodes if n in axes))

    _rewrite(model, model, changed)


def note_lowered(
    model: onnx.ModelProto, before: onnx.ModelProto, became: Mapping[str, Sequence[str]]
) -> None:
    """Keeps the model's records true after nodes became standard operators.

    Args:
        model: changed in place; a model without records stays as it is.
        before: the model with its former nodes.
        became: name of a former node to the names of the nodes in its place.
    """

    def changed(record: LayerRecord) -> LayerRecord:
        if not any(node in became for node in record.nodes):
            return record
        nodes = tuple(new for node in record.nodes for new in became.get(node, (node,)))
        return replace(record, nodes=nodes, lowering="native")

    _rewrite(model, before, changed)


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

    _rewrite(model, model, changed)


def _notes(record: LayerRecord, by_node: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    several = len(record.nodes) > 1
    return tuple(
        f"{node}: {note}" if several else note
        for node in record.nodes
        for note in by_node.get(node, ())
    )


def _rewrite(
    model: onnx.ModelProto,
    before: onnx.ModelProto,
    changed: Callable[[LayerRecord], LayerRecord],
) -> None:
    try:
        records = read(before)
    except ModelFileError:
        return  # not ours to mend; `inspect` tells of it
    if records:
        write(model, map(changed, records))


@dataclass(frozen=True)
class _Layer:
    """What the nodes of one layer have in common.

    Attributes:
        record: the layer's record without what is each node's own.
        first_node: name that the layer's first node had when the record was written.
        prefix: what a tool that joins files has since put before the names of the nodes.
    """

    record: LayerRecord
    first_node: str
    prefix: str


@dataclass(frozen=True)
class _Part:
    """What one node carries of its layer's record.

    Attributes:
        place: the node's place in the graph.
        position: its place among the layer's nodes.
        layer: what it has in common with these.
        record: the layer's record with the name, input shape and fusions of this node alone.
    """

    place: int
    position: int
    layer: _Layer
    record: LayerRecord

    @classmethod
    def from_dict(cls, place: int, node: str, fields: Mapping[str, Any]) -> _Part:
        """The part that `_split` made of a record, for the node that carries it now."""
        record = LayerRecord.from_dict({**fields, "nodes": [node]})
        position = arguments.integer("LayerRecord", "position", fields["position"], least=0)
        first_node, old_name = _texts([fields["first_node"], fields["node"]])
        notes: dict[str, Any] = {
            name: tuple(_renamed(note, old_name, node) for note in getattr(record, name))
            for name in _NOTES
        }
        prefix = node.removesuffix(old_name) if node.endswith(old_name) else ""
        layer = _Layer(replace(record, **_OF_ONE_NODE), first_node, prefix)
        return cls(place, position, layer, replace(record, **notes))


def _renamed(note: str, old_name: str, name: str) -> str:
    text = note.removeprefix(f"{old_name}: ")
    return note if text == note else f"{name}: {text}"


def _split(record: LayerRecord) -> list[tuple[str, dict[str, Any]]]:
    """For each node of a layer its name and the fields that it carries."""
    layer = replace(record, **_OF_ONE_NODE).to_dict()
    del layer["nodes"]
    own = {
        **{name: _by_call(record.nodes, getattr(record, name)) for name in _OF_ONE_CALL},
        **{name: _by_name(record.nodes, getattr(record, name)) for name in _NOTES},
    }
    return [
        (
            node,
            {
                **layer,
                "node": node,
                "position": position,
                "first_node": record.nodes[0],
                **{name: values[position] for name, values in own.items()},
            },
        )
        for position, node in enumerate(record.nodes)
    ]


def _by_call(nodes: Sequence[str], values: Sequence[Any]) -> Mapping[int, list[Any]]:
    """Values of the calls by the position of their node; those of further calls with the last."""
    by_node: dict[int, list[Any]] = defaultdict(list)
    for call, value in enumerate(values):
        by_node[min(call, len(nodes) - 1)].append(value)
    return by_node


def _by_name(nodes: Sequence[str], notes: Sequence[str]) -> Mapping[int, list[Any]]:
    """The notes by the position of the node that they begin with; other notes with the first."""
    positions: dict[str, int] = {}
    for position, node in enumerate(nodes):
        positions.setdefault(node, position)
    by_node: dict[int, list[Any]] = defaultdict(list)
    for note in notes:
        by_node[positions.get(note.partition(": ")[0], 0)].append(note)
    return by_node


def _joined(parts: Sequence[_Part]) -> LayerRecord:
    """The record of a layer of which each node carries a part."""
    records = [part.record for part in sorted(parts, key=lambda part: part.position)]
    joined: dict[str, Any] = {
        name: tuple(itertools.chain.from_iterable(getattr(record, name) for record in records))
        for name in _OF_ONE_NODE
    }
    return replace(records[0], **joined)


def _parsed(
    entry: onnx.StringStringEntryProto, where: str, read_one: Callable[[Mapping[str, Any]], _Record]
) -> list[_Record]:
    try:
        return [read_one(fields) for fields in _list(json.loads(entry.value))]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelFileError(
            f"{where}: the metadata {entry.key!r} is no list of layer records "
            f"({type(error).__name__}: {error})"
        ) from error


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    return (node for graph in all_graphs(model.graph) for node in graph.node)


def _has_no_record(node: onnx.NodeProto) -> bool:
    return not any(map(_is_of_node, node.metadata_props))


def _is_of_node(entry: onnx.StringStringEntryProto) -> bool:
    return bool(entry.key == NODE_KEY)


def _is_of_model(entry: onnx.StringStringEntryProto) -> bool:
    """Whether metadata of a model are records: all of them in older files, else those without."""
    return bool(entry.key == METADATA_KEY or entry.key.startswith(f"{METADATA_KEY}."))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ArgumentError(f"{arguments.shown(value)} in the place of a text in a record's fields")
    return value


def _dimension(value: Any) -> Dimension:
    if isinstance(value, bool) or not isinstance(value, (int, str, type(None))):
        raise ArgumentError(f"{arguments.shown(value)} in the place of a size in a record's fields")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise ArgumentError(f"{arguments.shown(value)} in the place of a list in a record's fields")
    return list(value)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(_text, _list(value)))
