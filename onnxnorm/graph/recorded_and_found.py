"""Differences between what the nodes of a layer compute and what the layer's record says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from onnxnorm.graph.nodes import attributes_of
from onnxnorm.graph.records import Dimension, LayerRecord
from onnxnorm.opset import OPERATORS, RESIDUAL, operator_of
from onnxnorm.spec import NormSpec

Shape = tuple[Dimension, ...]

_NAMES = {"axis": "axes", "num_groups": "groups"}
"""Fields of a spec by the attributes that say the same; of other attributes the names agree."""

# Standard operators with an attribute ``axis``: the first of the axes they normalize.
_FROM_AXIS = {
    "LayerNormalization": -1,
    "RMSNormalization": -1,
    "SimplifiedLayerNormalization": -1,
}
_DEFAULT_EPSILON = 1e-5


@dataclass(frozen=True)
class Place:
    """One node and what its file says of its inputs.

    Attributes:
        node: the node.
        input_dtype: numpy's name of the first input's element type, None where it is unknown.
        input_shape: the first input's shape, None where its rank is unknown.
        constants: the initializers and constants that the node can read, by their names.
    """

    node: onnx.NodeProto
    input_dtype: str | None
    input_shape: Shape | None
    constants: Mapping[str, onnx.TensorProto] = field(default_factory=dict, repr=False)

    def constant(self, name: str) -> np.ndarray[Any, Any] | None:
        """The value of an input; None where it is no constant or its data are not in the file."""
        tensor = self.constants.get(name)
        if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        try:
            value: np.ndarray[Any, Any] = numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError):
            return None
        return value


@dataclass(frozen=True)
class Difference:
    """A property in which a node is not what the record of its layer says.

    Attributes:
        node: the node's name.
        what: the property.
        found: what the node has.
        recorded: what the record says.
        spec: fields of the spec, as the node has them.
        shape: the shape of the node's input, where that is the difference.
    """

    node: str
    what: str
    found: Any
    recorded: Any
    spec: Mapping[str, Any] = field(default_factory=dict)
    shape: Shape | None = None

    def __str__(self) -> str:
        found, recorded = (
            "unset" if value is None else value for value in (self.found, self.recorded)
        )
        return f"node {self.node!r}: {self.what} is {found} in the file, {recorded} in the record"


def differences(record: LayerRecord, places: Sequence[Place]) -> tuple[Difference, ...]:
    """What of a layer's nodes is not as the record says; of values that only one has, nothing.

    Args:
        record: the layer's record.
        places: the nodes that it names, those that are in the file.
    """
    if record.spec is None or record.lowering not in ("custom", "native"):
        return ()
    found: list[Difference] = []
    for place in places:
        operator = operator_of(place.node)
        if record.lowering == "native":
            found += _native(record, record.spec, place)
        elif operator is not None and operator.name == record.spec.operator:
            found += _custom(record, record.spec, place)
    return tuple(found)


def as_found(record: LayerRecord, found: Sequence[Difference]) -> LayerRecord:
    """The record with the values of the file where these are others."""
    if record.spec is None or not found:
        return record
    spec: dict[str, Any] = {}
    shapes: list[Shape] = []
    for difference in found:
        spec |= {name: v for name, v in difference.spec.items() if name not in spec}
        shapes += [difference.shape] if difference.shape is not None else []
    try:
        changed = replace(record.spec, **spec)
    except ValueError:  # no spec can say what the node has, such as a negative epsilon
        changed = record.spec
    return replace(record, spec=changed, input_shapes=tuple(shapes) or record.input_shapes)


def _custom(record: LayerRecord, spec: NormSpec, place: Place) -> Iterator[Difference]:
    operator, node = OPERATORS[spec.operator], place.node
    given = attributes_of(node)
    wanted = operator.attributes_of(spec)
    for name, default in operator.attributes.items():
        value = given.get(name, default)
        if isinstance(value, str) and value.startswith("@"):
            continue  # given by whoever calls the function around the node
        if name in ("axis", "axes"):
            yield from _axes(record, spec, place, value if name == "axes" else [value], name)
        elif not _same(value, wanted[name]):
            changed = _NAMES.get(name, name)
            known = changed in ("epsilon", "groups", "subtract_mean")
            own = bool(value) if changed == "subtract_mean" else _float32(value)
            yield Difference(
                *(node.name, name, _float32(value), _float32(wanted[name])),
                spec={changed: own} if known else {},
            )
    yield from _input(record, spec, place)
    axis = given.get("axis", operator.attributes.get("axis"))
    yield from _parameters(spec, place, None if operator.broadcasts_parameters else axis)
    taken_in = _taken_in(node, given)
    notes = [n for n in record.fused if len(record.nodes) == 1 or n.startswith(f"{node.name}: ")]
    if len(taken_in) != len(notes):
        yield Difference(
            *(node.name, "what is fused"),
            ", ".join(taken_in) or "nothing",
            ", ".join(notes) or "nothing",
        )


def _taken_in(node: onnx.NodeProto, given: Mapping[str, Any]) -> list[str]:
    activation = given.get("activation") or b""
    name = activation.decode("utf-8", "replace") if isinstance(activation, bytes) else activation
    has_residual = node.op_type.startswith(RESIDUAL) or len(list(filter(None, node.input))) > 3
    return [*([name] if name else []), *(["a residual"] if has_residual else [])]


def _axes(
    record: LayerRecord, spec: NormSpec, place: Place, axes: Sequence[int], name: str
) -> Iterator[Difference]:
    if not all(isinstance(axis, int) for axis in axes):
        return
    shape = place.input_shape
    own, *recorded = (
        tuple(sorted(axis % len(shape) if shape else axis for axis in each))
        for each in (axes, *(record.node_axes or (spec.axes,)))
    )
    if own in recorded or (not shape and min(axes, default=0) < 0):
        return  # of an unknown rank, negative axes can be any
    yield Difference(
        *(place.node.name, name, _listed(own), " or ".join(map(_listed, dict.fromkeys(recorded)))),
        spec={"axes": own},
    )


def _input(record: LayerRecord, spec: NormSpec, place: Place) -> Iterator[Difference]:
    node, shape = place.node, place.input_shape
    if place.input_dtype not in (None, spec.compute_dtype):
        yield Difference(
            *(node.name, "the input's type", place.input_dtype, spec.compute_dtype),
            spec={"compute_dtype": place.input_dtype},
        )
    recorded = record.input_shapes
    if shape is None or len(recorded) < len(record.nodes) or "channel_block" in attributes_of(node):
        return
    # Negative axes: moved out of a loop, a node normalizes the inputs of all steps at once.
    all_steps = any(axis < 0 for axes in record.node_axes for axis in axes)
    if not any(
        _transposed(shape[-len(known) or None :] if all_steps else shape, known)
        for known in recorded
    ):
        yield Difference(
            *(node.name, "the input's shape", _listed(shape)),
            " or ".join(map(_listed, dict.fromkeys(recorded))),
            shape=shape,
        )


def _parameters(spec: NormSpec, place: Place, channel_axis: int | None) -> Iterator[Difference]:
    """Differences of scale and bias.

    Args:
        spec: what the record says.
        place: the node.
        channel_axis: the axis whose size scale and bias have; None where they broadcast to X.
    """
    node, shape = place.node, place.input_shape
    told = (("scale", spec.has_scale, 1), ("bias", spec.has_bias, 0))
    for name, (what, has_it, neutral) in zip(node.input[1:], told, strict=False):
        tensor = place.constants.get(name)
        if tensor is not None and shape is not None:
            wanted: Shape = shape
            if channel_axis is not None:
                wanted = (shape[channel_axis],) if -len(shape) <= channel_axis < len(shape) else ()
            if not _fits(tuple(tensor.dims), wanted, broadcasts=channel_axis is None):
                expected = "one that broadcasts to " if channel_axis is None else ""
                yield Difference(
                    *(node.name, f"the shape of {what}", _listed(tuple(tensor.dims))),
                    f"{expected}{_listed(wanted)}",
                )
        value = None if has_it else place.constant(name)
        if value is not None and not bool(np.all(value == neutral)):
            yield Difference(
                *(node.name, what, f"not all {'ones' if neutral else 'zeros'}", "absent"),
                spec={f"has_{what}": True},
            )


def _native(record: LayerRecord, spec: NormSpec, place: Place) -> Iterator[Difference]:
    """Differences of standard operators, those of `onnxnorm.opset`'s lowerings."""
    node, given = place.node, attributes_of(place.node)
    rank = len(place.input_shape) if place.input_shape is not None else None
    if node.op_type in _FROM_AXIS or node.op_type == "InstanceNormalization":
        yield from _epsilon(spec, node, given.get("epsilon", _DEFAULT_EPSILON))
    if node.op_type in _FROM_AXIS and rank:
        first = given.get("axis", _FROM_AXIS[node.op_type]) % rank
        yield from _axes(record, spec, place, list(range(first, rank)), "axis")
    own_names = f"{_stem(node.name)}/"
    for name in (n for n in node.input if n.startswith(own_names)):
        value = place.constant(name)
        if value is None:
            continue
        match name.removeprefix(own_names):
            case "epsilon":
                yield from _epsilon(spec, node, float(value))
            case "view_4d" | "view_5d" as view if spec.groups is not None:
                groups = int(value.flat[-3 if view == "view_5d" else 1])
                if groups != spec.groups:
                    yield Difference(
                        node.name, "num_groups", groups, spec.groups, {"groups": groups}
                    )
            case "axes" | "mean_axes" | "variance_axes" | "mean_square_axes" if OPERATORS[
                spec.operator
            ].broadcasts_parameters:
                yield from _axes(record, spec, place, [int(axis) for axis in value], "axes")


def _stem(node_name: str) -> str:
    """The name of the node that `onnxnorm.graph.native` replaced by this one."""
    return node_name.rpartition("/")[0]


def _epsilon(spec: NormSpec, node: onnx.NodeProto, value: float) -> Iterator[Difference]:
    if not _same(value, spec.epsilon):
        own = _float32(value)
        yield Difference(node.name, "epsilon", own, _float32(spec.epsilon), {"epsilon": own})


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(value, float) or isinstance(wanted, float):
        return bool(np.float32(value) == np.float32(wanted))
    return bool(value == wanted)


def _float32(value: Any) -> Any:
    """A float as it is written: 0.001, not 0.0010000000474974513."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _transposed(shape: Shape, recorded: Shape) -> bool:
    """Whether a shape can be the recorded one with its axes in another order.

    A size that only one of them knows, such as a batch that was fixed since, is no difference.
    """
    if len(shape) != len(recorded):
        return False
    own, known = (Counter(s for s in sizes if isinstance(s, int)) for sizes in (shape, recorded))
    return own <= known or known <= own


def _fits(shape: tuple[int, ...], wanted: Shape, broadcasts: bool) -> bool:
    if len(shape) > len(wanted) or (not broadcasts and len(shape) < len(wanted)):
        return False
    pairs = zip(reversed(shape), reversed(wanted), strict=False)
    return all(
        not isinstance(size, int) or own == size or (broadcasts and own == 1) for own, size in pairs
    )


def _listed(values: Sequence[Dimension]) -> str:
    return f"({','.join('?' if value is None else str(value) for value in values)})"
