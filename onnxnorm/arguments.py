"""Checks of the arguments of public functions: each returns the value as the function takes it.

Every error names the function, the argument, what was given and what it may be.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NoReturn

from onnxnorm.errors import ArgumentError

_SHOWN = 60


def refuse(function: str, name: str, value: Any, expected: str) -> NoReturn:
    """Raises the error for an argument of a wrong type or value."""
    raise ArgumentError(f"{function}: argument {name!r} is {shown(value)}; expected {expected}")


def shown(value: Any) -> str:
    """A value as an error shows it: what is short is repeated, of all else the type is named."""
    if value is None:
        return "None"
    kind = type(value).__name__
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, (str, bytes)):
        return repr(value[:_SHOWN]) + "…" * (len(value) > _SHOWN)
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, (bool, int, float)):
        return repr(value)
    return f"of type {kind}"


def flag(function: str, name: str, value: Any) -> bool:
    """A truth value; what is merely truthy is refused."""
    if isinstance(value, bool) or _is_numpy_bool(value):
        return bool(value)
    refuse(function, name, value, "True or False")


def integer(function: str, name: str, value: Any, least: int | None = None) -> int:
    """An integer, numpy's included, and no truth value."""
    fits = isinstance(value, Integral) and not isinstance(value, bool)
    if not fits or int(value).bit_length() > 63 or (least is not None and int(value) < least):
        from_least = "" if least is None else f" from {least} on"
        refuse(function, name, value, f"an integer{from_least}")
    return int(value)


def number(function: str, name: str, value: Any, least: float) -> float:
    """A finite number of at least ``least``."""
    fits = isinstance(value, Real) and not isinstance(value, bool)
    if not fits or not least <= value < float("inf"):
        refuse(function, name, value, f"a finite number from {least:g} on")
    try:
        return float(value)
    except OverflowError:
        refuse(function, name, value, "a number that a float holds")


def text(function: str, name: str, value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        refuse(function, name, value, "a text")
    return value


def choice(function: str, name: str, value: Any, accepted: Sequence[str]) -> str:
    """One of some texts."""
    if not isinstance(value, str) or value not in accepted:
        refuse(function, name, value, f"one of {', '.join(map(repr, accepted))}")
    return value


def path(function: str, name: str, value: Any, also: str = "") -> str:
    """The path of a file: a text or an object such as ``pathlib.Path``.

    Args:
        function: what is called.
        name: the argument.
        value: its value.
        also: what else than a path is expected there.
    """
    expected = f"a path (str or os.PathLike){also and f' or {also}'}"
    found = os.fspath(value) if is_path(value) else None
    if not isinstance(found, str) or not found or "\0" in found:
        refuse(function, name, value, expected)
    return found


def is_path(value: Any) -> bool:
    """Whether a value is meant as a path."""
    return isinstance(value, (str, os.PathLike)) and not isinstance(value, type)


def instance(
    function: str, name: str, value: Any, kind: type | tuple[type, ...], expected: str
) -> None:
    """An object of a class."""
    if not isinstance(value, kind):
        refuse(function, name, value, expected)


def sequence(function: str, name: str, value: Any, expected: str) -> list[Any]:
    """A list, a tuple, a shape of TensorFlow or another sequence that is no text."""
    is_one = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    if not is_one or isinstance(value, (str, bytes, bytearray, memoryview, Mapping, type)):
        refuse(function, name, value, expected)
    try:
        return list(value)
    except (TypeError, ValueError):  # an array of rank 0, a shape of unknown rank
        refuse(function, name, value, expected)


def integers(function: str, name: str, value: Any, least: int | None = None) -> tuple[int, ...]:
    """A sequence of integers."""
    found = sequence(function, name, value, "a sequence of integers")
    return tuple(integer(function, f"{name}[{i}]", item, least) for i, item in enumerate(found))


def texts(function: str, name: str, value: Any) -> tuple[str, ...]:
    """A sequence of texts."""
    found = sequence(function, name, value, "a sequence of texts")
    return tuple(text(function, f"{name}[{i}]", item) for i, item in enumerate(found))


def mapping(function: str, name: str, value: Any, expected: str) -> Mapping[Any, Any]:
    """A dictionary."""
    if not isinstance(value, Mapping):
        refuse(function, name, value, expected)
    return value


def providers(function: str, value: Any, options: Any = None) -> None:
    """Execution providers of ONNX Runtime, and their options where these are apart."""
    if value is None:
        return
    expected = "a sequence of names, or of pairs of a name and a dictionary of options"
    for provider in sequence(function, "providers", value, expected):
        is_pair = isinstance(provider, tuple) and len(provider) == 2 and options is None
        if isinstance(provider, str):
            continue
        if not (is_pair and isinstance(provider[0], str) and isinstance(provider[1], dict)):
            refuse(
                function, "providers", provider, f"{expected}; names alone beside provider_options"
            )
    if options is not None:
        wanted = "one dictionary of options for each of providers"
        given = sequence(function, "provider_options", options, wanted)
        if len(given) != len(value) or not all(isinstance(each, dict) for each in given):
            refuse(function, "provider_options", options, wanted)


def _is_numpy_bool(value: Any) -> bool:
    return type(value).__module__ == "numpy" and type(value).__name__ in ("bool_", "bool")
