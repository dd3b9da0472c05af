"""From a framework's layer to its formula: one file per framework, one function per layer class."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeVar

from onnxnorm import arguments
from onnxnorm.errors import ArgumentError, ConversionError, OnnxNormError
from onnxnorm.frameworks.formula import Fitted, Formula, Shape, fitted
from onnxnorm.frameworks.weights import Weight

__all__ = ["Fitted", "Formula", "KnownLayer", "adapter", "is_stand_in", "recognize", "stand_in"]

FormulaOf = Callable[[Any, Shape], Formula]
_Function = TypeVar("_Function", bound=FormulaOf)
_Callable = TypeVar("_Callable", bound=Callable[..., Any])

# Package that defines the layers, and its major version where that matters -> our module for it,
# whose tables name classes, with the module within the package where the name alone is ambiguous.
_FRAMEWORKS: Mapping[str, str] = {
    "tensorflow_addons": "onnxnorm.frameworks.tfa",
    "tf_keras": "onnxnorm.frameworks.tf_keras",
    "keras 2": "onnxnorm.frameworks.tf_keras",
    "keras 3": "onnxnorm.frameworks.keras3",
    "keras_hub": "onnxnorm.frameworks.keras_hub",
    "keras_nlp": "onnxnorm.frameworks.keras_hub",
}

# What a subclass may define without changing what the layer computes from its weights.
_HARMLESS = frozenset({"build", "get_config", "from_config", "compute_output_shape"})

_STAND_IN = "_onnxnorm_stand_in"
_ADAPTERS: dict[type, FormulaOf] = {}


@dataclass(frozen=True)
class KnownLayer:
    """A layer whose class, or a base class of it, is a normalization.

    Attributes:
        layer: the layer itself.
        overridden: methods by which a subclass changes the computation; with any, nothing else
            here holds.
        formula: gives its formula for an input shape; None for a wrapper.
        folded: what it is at inference, where that is no node of its own; empty for a layer that
            is one node.
        weight: gives the weight that a wrapper computes, or None where it stands as it is.
        measured: whether its class is unknown, so that its formula is to be found for each call.
        notes: why calls of it left no marker, noted while the model is traced.
        scopes: name scopes of the operations of these calls, each with a slash behind it.
    """

    layer: Any
    overridden: tuple[str, ...]
    formula: FormulaOf | None = None
    folded: str = ""
    weight: Callable[[Any], Weight] | None = None
    measured: bool = False
    notes: list[str] = field(default_factory=list, compare=False)
    scopes: list[str] = field(default_factory=list, compare=False)

    def fitted(self, input_shape: Shape) -> Fitted:
        """Its formula for an input of this shape.

        Raises:
            ConversionError: it has none for it; the message names the layer.
        """
        assert self.formula is not None  # a wrapper leaves no marker
        try:
            formula = self.formula(self.layer, input_shape)
        except ArgumentError as error:
            raise ConversionError(f"layer {self.layer.name!r}: its adapter: {error}") from error
        except OnnxNormError:
            raise
        except Exception as error:
            name = getattr(self.formula, "__name__", repr(self.formula))
            raise ConversionError(
                f"layer {self.layer.name!r}: its adapter {name} failed for the input "
                f"{input_shape}: {type(error).__name__}: {error}"
            ) from error
        return fitted(formula, self.layer, input_shape)


def adapter(layer_class: type) -> Callable[[_Function], _Function]:
    """Makes a layer class known, so that each of its layers becomes one node.

    Decorates a function from a built layer and the shape of its input (None for an unknown size)
    to the layer's formula::

        @onnxnorm.adapter(ScaleNorm)
        def scale_norm(layer, input_shape):
            return onnxnorm.Formula("UnitNormalization", axes=[-1], epsilon=1e-12, scale=layer.g)

    It holds for subclasses that do not override what the class computes. The last function that
    is registered for a class counts.

    Raises:
        ArgumentError: ``layer_class`` is no class, or what is decorated no function.
    """
    wanted = "a layer class, as in adapter(MyNorm)"
    arguments.instance("adapter", "layer_class", layer_class, type, wanted)

    def register(function: _Function) -> _Function:
        if not callable(function):
            wanted = "a function from a layer and the shape of its input to a Formula"
            arguments.refuse(f"adapter({layer_class.__name__})", "function", function, wanted)
        _ADAPTERS[layer_class] = function
        return function

    return register


def recognize(layer: Any) -> KnownLayer | None:
    """What is known of ``layer`` by its class or the nearest base class, if anything."""
    lineage = type(layer).__mro__
    for position, base in enumerate(lineage):
        overridden = _overridden(layer, lineage[:position], base)
        if base in _ADAPTERS:
            return KnownLayer(layer, overridden, _ADAPTERS[base])
        known = _known_class(layer, overridden, base)
        if known is not None:
            return known
    return None


def _known_class(layer: Any, overridden: tuple[str, ...], base: type) -> KnownLayer | None:
    package = base.__module__.partition(".")[0]
    if package == "keras":
        package += " " + sys.modules["keras"].__version__.partition(".")[0]
    if package not in _FRAMEWORKS:
        return None
    module: Any = import_module(_FRAMEWORKS[package])
    for name in (base.__name__, f"{base.__module__.partition('.src.')[2]}.{base.__name__}"):
        if name in module.LAYERS:
            return KnownLayer(layer, overridden, module.LAYERS[name])
        if name in module.BATCH_LAYERS:
            folded = "at inference a scale and a shift by stored statistics"
            return KnownLayer(layer, overridden, module.BATCH_LAYERS[name], folded)
        if name in module.WRAPPERS:
            folded = "at inference a constant weight of the layer inside it"
            return KnownLayer(layer, overridden, None, folded, module.WRAPPERS[name])
    return None


def _overridden(layer: Any, subclasses: tuple[type, ...], base: type) -> tuple[str, ...]:
    """Names by which subclasses, or the layer object itself, change what the base computes."""
    family = [known for known in base.__mro__ if known.__module__ == base.__module__]
    computing = {
        name
        for known in family
        for name, value in vars(known).items()
        if callable(value) and not name.startswith("__")
    }
    changed = {name for subclass in subclasses for name in vars(subclass)}
    changed |= {
        name
        for name, value in vars(layer).items()
        if not hasattr(value, _STAND_IN) and not _is_own_method(layer, name, value)
    }
    return tuple(sorted((computing | {"call"}) & changed - _HARMLESS))


def _is_own_method(layer: Any, name: str, value: Any) -> bool:
    """Whether an attribute of a layer object is a method of its class, bound to the object.

    Keras 2 leaves it there when it has saved a SavedModel.
    """
    function = getattr(value, "__func__", None)
    own = getattr(type(layer), name, None)
    return function is not None and function is own and value.__self__ is layer


def stand_in(function: _Callable) -> _Callable:
    """Marks a function that stands in a layer's attribute for a while, by our own doing."""
    setattr(function, _STAND_IN, True)
    return function


def is_stand_in(function: Any) -> bool:
    """Whether `stand_in` marked it."""
    return hasattr(function, _STAND_IN)
