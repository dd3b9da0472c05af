"""From a framework's layer to its formula: one file per framework, one function per layer class."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from onnxnorm.frameworks.formula import Formula, Shape

__all__ = ["Formula", "KnownLayer", "recognize"]

# Package that defines the layers, and its major version where that matters -> our module for it.
_FRAMEWORKS: Mapping[str, str] = {
    "tensorflow_addons": "onnxnorm.frameworks.tfa",
    "tf_keras": "onnxnorm.frameworks.tf_keras",
    "keras 2": "onnxnorm.frameworks.tf_keras",
    "keras 3": "onnxnorm.frameworks.keras3",
}

# What a subclass may define without changing what the layer computes from its weights.
_HARMLESS = frozenset({"build", "get_config", "from_config", "compute_output_shape", "add_weight"})


@dataclass(frozen=True)
class KnownLayer:
    """A layer whose class, or a base class of it, has a formula.

    Attributes:
        layer: the layer itself.
        formula: gives its formula for an input shape.
        overridden: methods by which a subclass changes the computation; with any, the formula
            does not hold.
    """

    layer: Any
    formula: Callable[[Any, Shape], Formula]
    overridden: tuple[str, ...]


def recognize(layer: Any) -> KnownLayer | None:
    """The known layer class that ``layer`` is an instance of, if there is one."""
    lineage = type(layer).__mro__
    for position, base in enumerate(lineage):
        formula = _formulas(base.__module__.partition(".")[0]).get(base.__name__)
        if formula is not None:
            return KnownLayer(layer, formula, _overridden(lineage[:position], base))
    return None


def _formulas(package: str) -> Mapping[str, Callable[[Any, Shape], Formula]]:
    if package == "keras":
        package += " " + sys.modules["keras"].__version__.partition(".")[0]
    if package not in _FRAMEWORKS:
        return {}
    layers: Mapping[str, Callable[[Any, Shape], Formula]]
    layers = import_module(_FRAMEWORKS[package]).LAYERS
    return layers


def _overridden(subclasses: tuple[type, ...], base: type) -> tuple[str, ...]:
    changed = {
        name
        for subclass in subclasses
        for name, value in vars(subclass).items()
        if callable(value) and not name.startswith("__") and hasattr(base, name)
    }
    return tuple(sorted(changed - _HARMLESS))
