"""What a model's nodes of the ``onnxnorm`` domain must be before anything computes with them.

The library cannot see it all: ONNX Runtime tells a kernel neither the names of the attributes that
its node has nor the version of the domain that the model imports.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import onnx
import onnx.helper

from onnxnorm.errors import ModelFileError
from onnxnorm.opset import DOMAIN, VERSION, Operator, operator_of
from onnxnorm.opset.activations import ACTIVATIONS


class NodeError(ModelFileError):
    """A model whose nodes of the domain are not what the domain says."""


_Types = onnx.AttributeProto
#: Inputs that a node has at least, and those of the optimized form.
_REQUIRED = ("X", "scale", "bias")
_INPUTS = (*_REQUIRED, "residual")
#: Attributes of the optimized form.
_FUSED = {
    "activation": _Types.STRING,
    "activation_params": _Types.FLOATS,
    "residual_stage": _Types.STRING,
}
#: Which values an attribute may have whatever the shape of X, and how that is said.
_ACCEPTED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "axes": (bool, "at least one axis"),
    "activation": (lambda name: name in ("", *ACTIVATIONS), ", ".join(ACTIVATIONS)),
    "channel_block": (lambda size: size >= 0, "1 or more, with axis 1"),
    "epsilon": (lambda value: 0 <= value < math.inf, "a finite number, 0 or more"),
    "num_groups": (lambda count: count >= 1, "1 or more"),
    "residual_stage": (lambda stage: stage in ("", "input", "output"), "input, output"),
    "stash_type": (
        lambda kind: kind in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE),
        "1 (float32) or 11 (float64)",
    ),
    "subtract_mean": (lambda flag: flag in (0, 1), "0 or 1"),
}
_ANY: tuple[Callable[[Any], bool], str] = (lambda _: True, "")


def check(model: onnx.ModelProto, source: str = "the model") -> None:
    """Refuses nodes of the domain that would compute something else than they say.

    Args:
        model: a model, or the outline of one without its weights.
        source: what an error calls it.

    Raises:
        NodeError: the domain's version, an attribute's name or type, or the inputs of a node are
            not those of the domain.
    """
    for holder in (model, *model.functions):
        for imported in holder.opset_import:
            if imported.domain == DOMAIN and imported.version != VERSION:
                raise NodeError(
                    f"{source}: imports version {imported.version} of the operator domain "
                    f"{DOMAIN}; accepted: {VERSION}"
                )
    for node in (n for nodes in (model.graph, *model.functions) for n in _nodes(nodes)):
        operator = operator_of(node)
        fault = _fault(node, operator) if operator is not None else None
        if fault:
            raise NodeError(f"{source}: {DOMAIN}.{node.op_type} node {node.name!r}: {fault}")


def drop_omitted(model: onnx.ModelProto) -> bool:
    """Removes empty names at the end of the inputs of the domain's nodes; whether there were any.

    They mean nothing, and ONNX Runtime 1.21 and 1.23 crash at them.
    """
    dropped = False
    for node in (n for nodes in (model.graph, *model.functions) for n in _nodes(nodes)):
        while node.domain == DOMAIN and node.input and not node.input[-1]:
            del node.input[-1]
            dropped = True
    return dropped


def _nodes(holder: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph or a function, and those of the graphs inside them."""
    for node in holder.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _fault(node: onnx.NodeProto, operator: Operator) -> str | None:
    """What is wrong with a node of the domain, and what would be accepted."""
    accepted = _attribute_types(operator.attributes)
    for attribute in node.attribute:
        if attribute.name not in accepted:
            return f"unknown attribute {attribute.name!r}; accepted: {', '.join(accepted)}"
        if attribute.type != accepted[attribute.name]:
            found, wanted = map(_type_name, (attribute.type, accepted[attribute.name]))
            return f"the attribute {attribute.name} is {found}; accepted: {wanted}"
    # What a function refers to has its value where it is called.
    referred = {attribute.name for attribute in node.attribute if attribute.ref_attr_name}
    values = {
        attribute.name: _value(attribute)
        for attribute in node.attribute
        if attribute.name not in referred
    }
    for name, value in values.items():
        accepts, wanted = _ACCEPTED.get(name, _ANY)
        if not accepts(value):
            return f"{name} is {value!r}; accepted: {wanted}"
    if not referred & {"activation", "activation_params"}:
        fault = _fault_of_parameters(values)
        if fault:
            return fault
    given = list(node.input)
    for number, name in enumerate(_REQUIRED):
        if number >= len(given) or not given[number]:
            return (
                f"the input {name} is left out; accepted: a tensor, such as one of "
                f"{'zeros' if name == 'bias' else 'ones'} where the layer has no {name}"
                if number
                else "the input X is left out; accepted: a tensor"
            )
    if any(given[len(_INPUTS) :]):
        return f"has {len(given)} inputs; accepted: {', '.join(_INPUTS)}"
    return None


def _value(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _fault_of_parameters(values: Mapping[str, Any]) -> str | None:
    """What is wrong with the parameters of the activation."""
    name, given = values.get("activation", ""), list(values.get("activation_params", ()))
    parameters = list(ACTIVATIONS[name].parameters) if name else []
    # A side of Clip may be open.
    accepts, numbers = (
        (lambda number: not math.isnan(number), "no NaN")
        if name == "Clip"
        else (math.isfinite, "finite numbers")
    )
    if len(given) == len(parameters) and all(map(accepts, given)):
        return None
    wanted = f"[{', '.join(parameters)}], {numbers}"
    if not name:
        return f"activation_params is {given}, and there is no activation; accepted: both or none"
    return f"activation_params is {given} for the activation {name}; accepted: {wanted}"


def _attribute_types(defaults: Mapping[str, object]) -> dict[str, int]:
    """The attributes of an operator, in the order of the documentation, and their types."""
    types: dict[str, int] = {}
    for name, default in defaults.items():
        if isinstance(default, list):
            types[name] = _Types.INTS
        else:
            types[name] = _Types.FLOAT if isinstance(default, float) else _Types.INT
    if "axis" in types:
        types["channel_block"] = _Types.INT
    return {**types, **_FUSED}


def _type_name(number: int) -> str:
    known: dict[int, str] = {value: name for name, value in _Types.AttributeType.items()}
    return known.get(number, f"of type {number}")
