"""What a normalization layer computes, free of any framework.

``frameworks`` produces a NormSpec from a layer; every later stage consumes it and never looks
at the layer again.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Literal, get_args

from onnxnorm import arguments

Operator = Literal[
    "FilterResponseNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "RMSNormalization",
    "UnitNormalization",
]


@dataclass(frozen=True)
class NormSpec:
    """One normalization layer as its inference formula.

    Attributes:
        operator: name of the operator in the ``onnxnorm`` domain that computes it.
        axes: non-negative axes of the input. The channel axis alone for group and instance
            normalization, the normalized axes in ascending order for the others.
        groups: number of channel groups (group normalization), else None.
        epsilon: added to the variance or the mean square before the square root; the least sum
            of squares for unit normalization.
        subtract_mean: whether the mean is taken off the input (layer normalization); the
            variance is about the mean in any case.
        has_scale: whether the layer learns a scale (Keras ``gamma``).
        has_bias: whether the layer learns a bias (Keras ``beta``).
        compute_dtype: numpy name of the dtype that the layer receives and returns.
        layer_name: the layer's own name.
        layer_class: qualified name of the layer's class.

    Raises:
        ArgumentError: a field of a wrong type.
    """

    operator: Operator
    axes: tuple[int, ...]
    epsilon: float
    layer_name: str
    layer_class: str
    groups: int | None = None
    subtract_mean: bool = True
    has_scale: bool = True
    has_bias: bool = True
    compute_dtype: str = "float32"

    def __post_init__(self) -> None:
        own = type(self).__name__
        arguments.choice(own, "operator", self.operator, get_args(Operator))
        axes = arguments.integers(own, "axes", self.axes, least=0)
        object.__setattr__(self, "axes", axes)
        object.__setattr__(self, "epsilon", arguments.number(own, "epsilon", self.epsilon, least=0))
        if self.groups is not None:
            groups = arguments.integer(own, "groups", self.groups, least=1)
            object.__setattr__(self, "groups", groups)
        for name in ("layer_name", "layer_class", "compute_dtype"):
            arguments.text(own, name, getattr(self, name))
        for name in ("subtract_mean", "has_scale", "has_bias"):
            object.__setattr__(self, name, arguments.flag(own, name, getattr(self, name)))

    def to_json(self) -> str:
        """One line of JSON, read back by `from_json`."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> NormSpec:
        """The spec that `to_json` wrote.

        Raises:
            ArgumentError: it is none.
        """
        called, wanted = f"{cls.__name__}.from_json", "a spec as to_json writes it"
        try:
            given = json.loads(arguments.text(called, "text", text))
        except (ValueError, RecursionError):
            arguments.refuse(called, "text", text, wanted)
        names = {field.name for field in fields(cls)}
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        if not isinstance(given, dict) or not needed <= given.keys() <= names:
            arguments.refuse(called, "text", text, wanted)
        return cls(**given)
