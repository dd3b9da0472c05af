"""What a normalization layer computes, free of any framework.

``frameworks`` produces a NormSpec from a layer; every later stage consumes it and never looks
at the layer again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal, get_args

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
        if self.operator not in get_args(Operator):
            raise ValueError(f"unknown operator {self.operator!r}: one of {get_args(Operator)}")

    def to_json(self) -> str:
        """One line of JSON, read back by `from_json`."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> NormSpec:
        """The spec that `to_json` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "axes": tuple(fields["axes"])})
