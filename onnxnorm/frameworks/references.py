"""The layers that a layer's own Python code refers to, where no framework tracks them.

A layer in the closure of a Lambda, in a global variable or in an ordinary object runs as part of
a model without being one of its sublayers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any


def referenced(layer: Any, layer_class: type) -> Iterator[Any]:
    """Instances of ``layer_class`` in reach of a layer's attributes and its users' code.

    Args:
        layer: a layer or model.
        layer_class: the base class of all layers.
    """
    waiting = list(vars(layer).values())
    for base in type(layer).__mro__:
        if _is_users(base.__module__):
            waiting += vars(base).values()
    seen: dict[int, Any] = {}  # holds the values, whose ids would else be given away again
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, layer_class):
            yield value
        else:
            waiting += _within(value)


def _within(value: Any) -> list[Any]:
    """What a container, a function or a user's object holds or refers to."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, (staticmethod, classmethod)):
        return [value.__func__]
    if isinstance(value, FunctionType):
        return _names_of(value)
    if hasattr(type(value), "python_function"):  # what tf.function makes
        return [value.python_function]
    if isinstance(value, type) or not _is_users(type(value).__module__):
        return []
    return list(getattr(value, "__dict__", {}).values())


def _names_of(function: FunctionType) -> list[Any]:
    """The values of the names that a function takes from around it."""
    values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    if _is_users(function.__module__):
        names = set(_global_names(function.__code__))
        values += (value for name, value in function.__globals__.items() if name in names)
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    return values


def _global_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _is_users(module: str | None) -> bool:
    """Whether a module is the user's own: neither Python's nor of an installed package."""
    root = (module or "").partition(".")[0]
    file = getattr(sys.modules.get(module or ""), "__file__", None) or ""
    return root not in sys.stdlib_module_names and "-packages" not in file
