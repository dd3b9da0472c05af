"""Nodes that take each way through the CUDA kernels, in the emulation or on a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One node.

    Attributes:
        operator: its operator.
        shape: of X.
        method: how it is launched in float32 on a device of four multiprocessors with 40 KB of
            shared memory to a block: small, so that few elements make many chunks.
        attributes: those that are not at their defaults.
    """

    operator: str
    shape: tuple[int, ...]
    method: str
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of scale and bias."""
        if self.operator in ("GroupNormalization", "InstanceNormalization"):
            return (self.shape[self.attributes.get("axis", 1)],)
        if self.operator == "FilterResponseNormalization":
            return self.shape[-1:]
        axes = {axis % len(self.shape) for axis in self.attributes.get("axes", [-1])}
        return tuple(size if axis in axes else 1 for axis, size in enumerate(self.shape))

    def values(self, mean: float) -> tuple[Array, Array, Array]:
        """X, scale and bias, in float64."""
        rng = np.random.default_rng(sum(self.shape))
        x = rng.normal(size=self.shape) + mean
        return x, rng.normal(size=self.parameter_shape) + 0.5, rng.normal(size=self.parameter_shape)


CASES: Mapping[str, Case] = MappingProxyType(
    {
        "one element": Case("LayerNormalization", (3, 1), "rows_in_registers"),
        "tiny rows": Case("LayerNormalization", (70, 5), "rows_in_registers"),
        "short rows": Case("LayerNormalization", (33, 64), "rows_in_registers"),
        "rows": Case("LayerNormalization", (5, 768), "rows_in_registers"),
        "odd rows": Case("RMSNormalization", (5, 1001), "rows_in_registers"),
        "long rows": Case("UnitNormalization", (16, 8200), "rows_in_shared"),
        "long odd rows": Case("LayerNormalization", (16, 4099), "rows_in_shared"),
        "few long rows": Case("LayerNormalization", (2, 40000), "rows_in_chunks"),
        "one odd row": Case("LayerNormalization", (1, 50001), "rows_in_chunks"),
        "channels first": Case(
            "GroupNormalization", (2, 6, 5, 7), "rows_in_registers", {"num_groups": 3}
        ),
        "images": Case("InstanceNormalization", (1, 3, 130, 128), "rows_in_chunks"),
        "channels last": Case(
            "GroupNormalization", (2, 6, 5, 64), "columns_in_shared", {"num_groups": 8, "axis": -1}
        ),
        "odd channels last": Case(
            "GroupNormalization",
            (3, 26, 26, 10),
            "columns_in_shared",
            {"num_groups": 5, "axis": -1},
        ),
        "instances last": Case(
            "InstanceNormalization", (2, 40, 40, 24), "columns_in_chunks", {"axis": -1}
        ),
        "large image, channels last": Case(
            "GroupNormalization",
            (1, 64, 64, 96),
            "columns_in_chunks",
            {"num_groups": 32, "axis": -1},
        ),
        "wide groups": Case(
            "GroupNormalization", (1, 9, 3000), "columns_in_chunks", {"num_groups": 2, "axis": -1}
        ),
        "alternating axes": Case("LayerNormalization", (3, 5, 4, 6), "strided", {"axes": [1, 3]}),
        "three alternations": Case(
            "LayerNormalization", (2, 3, 4, 3, 5), "strided", {"axes": [0, 2, 4]}
        ),
        "filter response": Case(
            "FilterResponseNormalization", (2, 12, 12, 20), "columns_in_shared", {"axes": [1, 2]}
        ),
    }
)

#: More shared memory to a block than every device has, which a real one has to permit; the method
#: is that on a device of 132 multiprocessors with 227 KB.
LARGE: Mapping[str, Case] = MappingProxyType(
    {
        "rows of 48 KB": Case("LayerNormalization", (8, 12288), "rows_in_shared"),
        "rows of 64 KB": Case("RMSNormalization", (132, 16384), "rows_in_shared"),
        "tall tiles": Case(
            "GroupNormalization",
            (20, 20, 20, 512),
            "columns_in_shared",
            {"num_groups": 32, "axis": -1},
        ),
    }
)
