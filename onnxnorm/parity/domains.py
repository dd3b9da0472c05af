"""The values that make sense for an input, read from what the model does with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from onnxnorm import capture

# Operations that hand indices on; Keras 3 selects between one and the same counted from the end.
_HAND_ON = frozenset(
    {"Cast", "ExpandDims", "Identity", "Reshape", "SelectV2", "Squeeze", "StopGradient"}
)

UNKNOWN_WORD = "a word that is in no vocabulary"
UNKNOWN_NUMBER = -(2**31)


def index_limit(placeholder: Any, function: Any) -> int | None:
    """The number that indices in an input are below; None where it looks nothing up.

    Args:
        placeholder: the input, a symbolic tensor of the function.
        function: the ``tf.ConcreteFunction``.
    """
    sizes = _variable_sizes(function)
    limits = [
        sizes.get(table.name, table.shape[axis] if table.shape.rank else None)
        for table, axis in _tables(placeholder)
    ]
    return min((limit for limit in limits if limit is not None), default=None)


def named_sizes(function: Any, placeholders: Sequence[Any]) -> list[int]:
    """Sizes that unknown dimensions of inputs may have to be, each once.

    Of a target shape that the model reshapes to, the number of elements, whole and divided by what
    is known of an input, and its square root; then the first size of each variable, such as a
    table of positions.

    Args:
        function: the ``tf.ConcreteFunction``.
        placeholders: its inputs.
    """
    known = {1, *(math.prod(size or 1 for size in _sizes(p)[1:]) for p in placeholders)}
    targets: set[int] = set()
    for operation in function.graph.get_operations():
        if operation.type != "Reshape":
            continue
        target = capture.tensorflow().get_static_value(operation.inputs[1], partial=True)
        if target is None:
            continue
        elements = math.prod(int(size) for size in target if size is not None and size > 0)
        for whole in (elements // part for part in sorted(known) if elements % part == 0):
            targets |= {whole} | ({math.isqrt(whole)} if math.isqrt(whole) ** 2 == whole else set())
    firsts = {size for size in _variable_sizes(function).values() if size}
    return [*sorted(targets), *sorted(firsts - targets)]


def _sizes(tensor: Any) -> list[int | None]:
    return [] if tensor.shape.rank is None else list(tensor.shape.as_list())


def vocabulary(layers: Sequence[Any], text: bool) -> tuple[Any, ...]:
    """What the model's lookup layers know, and one thing that none of them does if they allow it.

    Args:
        layers: all layers of the model.
        text: words are wanted, not numbers.
    """
    wanted = "StringLookup" if text else "IntegerLookup"
    lookups = [layer for layer in layers if wanted in {c.__name__ for c in type(layer).__mro__}]
    known = [
        entry for layer in lookups for entry in layer.get_vocabulary(include_special_tokens=False)
    ]
    if known and all(layer.num_oov_indices for layer in lookups):
        known.append(UNKNOWN_WORD if text else UNKNOWN_NUMBER)
    return tuple(dict.fromkeys(known))


def is_looked_up(placeholder: Any) -> bool:
    """Whether a lookup layer's table reads an input."""
    return any(operation.type == "LookupTableFindV2" for operation, _ in _readers(placeholder))


def _variable_sizes(function: Any) -> dict[str, int | None]:
    """First size of each variable that the function captures, by the name it has inside."""
    variables = {id(variable.handle): variable for variable in function.graph.variables}
    return {
        inside.name: variables[id(outside)].shape[0]
        for outside, inside in function.graph.captures
        if id(outside) in variables and variables[id(outside)].shape.rank
    }


def _tables(placeholder: Any) -> Iterator[tuple[Any, int]]:
    """What the input indexes, and along which axis."""
    for operation, tensor in _readers(placeholder):
        if operation.type not in ("GatherV2", "ResourceGather"):
            continue
        if operation.inputs[1].name == tensor.name:
            axis = operation.inputs[2] if operation.type == "GatherV2" else 0
            known = capture.tensorflow().get_static_value(axis)
            if known is not None:
                yield operation.inputs[0], int(known)


def _readers(placeholder: Any) -> Iterator[tuple[Any, Any]]:
    """The operations that read an input, also handed on by others, and the tensor they read."""
    waiting, seen = [placeholder], {placeholder.name}
    while waiting:
        tensor = waiting.pop()
        for operation in tensor.consumers():
            if operation.type not in _HAND_ON:
                yield operation, tensor
            elif operation.outputs[0].name not in seen:
                seen.add(operation.outputs[0].name)
                waiting.append(operation.outputs[0])
