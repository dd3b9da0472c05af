"""What an ONNX model must be before a pass, onnx' checker or ONNX Runtime meets it.

These walk functions, references and names without asking how much work that is, or whether they
are what the format says.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import onnx

from onnxnorm.errors import ModelFileError
from onnxnorm.external_tensors import byte_size, is_external
from onnxnorm.limits import FUNCTION_DEPTH, FUNCTION_NODES, NODES_OF_A_CALL
from onnxnorm.opset import checks

_ATTRIBUTE_TYPES = frozenset(onnx.AttributeProto.AttributeType.values()) - {
    onnx.AttributeProto.UNDEFINED
}
_COMPLEX = (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)
_NUMBERS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
# Domain, name and overload.
_Key = tuple[str, str, str]


def check(model: onnx.ModelProto, name: str, whole: bool) -> None:
    """Refuses what passes, onnx and ONNX Runtime would fail on, or work on without end.

    Args:
        model: a model from a file.
        name: what an error calls it.
        whole: whether its tensors, apart from external ones, have their data.

    Raises:
        ModelFileError: a name that is not text; a function that is there twice, calls itself or
            stands for too many nodes; an attribute of an unknown type, or a reference to one
            outside a function; a tensor with a negative dimension, or with other data than its
            shape and element type say.
    """
    functions = list(model.functions)
    try:
        calls: dict[_Key, list[_Key]] = {_key(function): [] for function in functions}
        if len(calls) < len(functions):
            (twice, _), *_ = Counter(map(_key, functions)).most_common(1)
            raise ModelFileError(f"function {_told(twice)} is there twice")
        in_graphs: list[_Key] = []
        for part in (model.graph, *model.training_info):
            in_graphs += _checked(part, whole, in_function=False)
        for function in functions:
            calls[_key(function)] = _checked(function, whole, in_function=True)
        for part in (*model.opset_import, *model.metadata_props):
            _checked(part, whole, in_function=False)
        _check_functions(calls, in_graphs)
    except ModelFileError as error:
        raise ModelFileError(f"{name}: {error}") from error
    checks.check(model, name)


def external_tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Every tensor, of graphs, inner ones too, attributes and functions, with data elsewhere."""
    return [
        message
        for message in _messages(model)
        if isinstance(message, onnx.TensorProto) and is_external(message)
    ]


def _checked(part: Any, whole: bool, in_function: bool) -> list[_Key]:
    """Checks a part of the model and returns the operators of its nodes, inner ones too."""
    operators = []
    for message in _messages(part):
        for field in _fields(message.DESCRIPTOR).texts:
            _check_text(message, field)
        if isinstance(message, onnx.NodeProto):
            operators.append((_domain(message), message.op_type, getattr(message, "overload", "")))
            _check_attributes(message, in_function)
        elif isinstance(message, onnx.TensorProto):
            _check_tensor(message, whole)
    return operators


def _check_text(message: Any, field: str) -> None:
    value = getattr(message, field)
    # What is not UTF-8 comes as bytes.
    values = (value,) if isinstance(value, (str, bytes)) else value
    for text in values:
        if not isinstance(text, str):
            kind = type(message).__name__.removesuffix("Proto")
            raise ModelFileError(f"{kind} {field} {bytes(text[:80])!r} is not text in UTF-8")


def _check_attributes(node: onnx.NodeProto, in_function: bool) -> None:
    for attribute in node.attribute:
        if attribute.type not in _ATTRIBUTE_TYPES:
            raise ModelFileError(
                f"node {node.name!r} ({node.op_type}): attribute {attribute.name!r} has type "
                f"{attribute.type}, which ONNX does not know"
            )
        if attribute.ref_attr_name and not in_function:
            raise ModelFileError(
                f"node {node.name!r} ({node.op_type}): attribute {attribute.name!r} refers to "
                f"{attribute.ref_attr_name!r} of a function, and the node is in none"
            )


def _check_tensor(tensor: onnx.TensorProto, whole: bool) -> None:
    size = byte_size(tensor)
    if size is None or not whole or is_external(tensor):
        return
    if tensor.HasField("raw_data"):
        unit, expected, found = "bytes of data", size, len(tensor.raw_data)
    else:
        # Of a complex number there are two parts, of numbers below 8 bits a byte holds several.
        count = math.prod(tensor.dims)
        parts = 2 if tensor.data_type in _COMPLEX else 1
        unit, expected = "numbers", parts * min(count, size)
        found = sum(len(getattr(tensor, field)) for field in _NUMBERS)
    if found != expected:
        raise ModelFileError(
            f"tensor {tensor.name!r} has {found} {unit}, and {expected} by its shape "
            f"{list(tensor.dims)}"
        )


def _check_functions(calls: Mapping[_Key, Sequence[_Key]], in_graphs: Sequence[_Key]) -> None:
    """Inlined functions are bounded, however often one calls the other."""
    nodes: dict[_Key, int] = {}
    depths: dict[_Key, int] = {}
    for start in calls:
        # The calls that one is in the middle of, each with what is left of its function.
        path = {} if start in nodes else {start: iter(calls[start])}
        while path:
            key, rest = next(reversed(path.items()))
            called = next((other for other in rest if other in calls and other not in nodes), None)
            if called is None:
                nodes[key] = sum(1 + nodes.get(other, 0) for other in calls[key])
                depths[key] = 1 + max((depths.get(other, 0) for other in calls[key]), default=0)
                del path[key]
                if depths[key] > FUNCTION_DEPTH:
                    raise ModelFileError(
                        f"function {_told(key)} calls others, and these others, more than "
                        f"{FUNCTION_DEPTH} deep"
                    )
            elif called in path:
                raise ModelFileError(f"function {_told(called)} calls itself")
            else:
                path[called] = iter(calls[called])
    inlined = sum(nodes.get(key, 0) for key in in_graphs)
    # A function that is not called is walked nevertheless.
    most = max(inlined, max(nodes.values(), default=0))
    limit = max(FUNCTION_NODES, NODES_OF_A_CALL * len(in_graphs))
    if most > limit:
        raise ModelFileError(
            f"its functions stand for {most if most < 10**9 else 'over 10^9'} nodes, and at most "
            f"{limit} are accepted"
        )


def _messages(message: Any) -> Iterator[Any]:
    """The message and every message in it; raw data are not looked at, for that copies them."""
    waiting = [message]
    while waiting:
        message = waiting.pop()
        yield message
        fields = _fields(message.DESCRIPTOR)
        for field in fields.single:
            if message.HasField(field):
                waiting.append(getattr(message, field))
        for field in fields.repeated:
            waiting.extend(getattr(message, field))


class _Fields:
    """Names of a message's fields of text, of one message, and of several messages."""

    def __init__(self, descriptor: Any) -> None:
        fields = descriptor.fields
        messages = [field for field in fields if field.type == field.TYPE_MESSAGE]
        self.texts = [field.name for field in fields if field.type == field.TYPE_STRING]
        self.single = [field.name for field in messages if not _is_repeated(field)]
        self.repeated = [field.name for field in messages if _is_repeated(field)]


def _is_repeated(field: Any) -> bool:
    # Protobuf 7 has the first alone, releases before 6 the second.
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(field.label == field.LABEL_REPEATED)


@cache
def _fields(descriptor: Any) -> _Fields:
    return _Fields(descriptor)


def _key(function: onnx.FunctionProto) -> _Key:
    return (_domain(function), function.name, getattr(function, "overload", ""))


def _domain(message: Any) -> str:
    return "" if message.domain == "ai.onnx" else message.domain


def _told(key: _Key) -> str:
    return repr("::".join(part for part in key if part))
