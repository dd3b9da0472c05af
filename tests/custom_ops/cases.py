"""Nodes and groups that kernels are put to, on whatever device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.custom_ops.nodes import Array

GROUP, INSTANCE, LAYER = "GroupNormalization", "InstanceNormalization", "LayerNormalization"
RMS, RESPONSE, UNIT = "RMSNormalization", "FilterResponseNormalization", "UnitNormalization"
#: The operators over `axes`, and what else their nodes say.
OVER_AXES: list[tuple[str, dict[str, Any]]] = [
    (LAYER, {}),
    (LAYER, {"subtract_mean": 0}),
    (RMS, {}),
    (RESPONSE, {}),
    (UNIT, {}),
]

LARGE = {
    "the MNIST layer": (GROUP, (64, 26, 26, 10), {"axis": 3, "num_groups": 5}),
    "channels last, whole sample": (GROUP, (1, 14, 14, 1024), {"axis": -1, "num_groups": 32}),
    "channels last, segments": (GROUP, (2, 56, 56, 256), {"axis": 3, "num_groups": 32}),
    "channels last, uneven segments": (GROUP, (3, 61, 67, 36), {"axis": 3, "num_groups": 6}),
    "channels last, one group": (GROUP, (2, 40, 40, 30), {"axis": 3, "num_groups": 1}),
    "channels last, wide": (GROUP, (2, 9, 3000), {"axis": 2, "num_groups": 300}),
    "channels last, group wider than a block": (GROUP, (2, 9, 3000), {"axis": 2, "num_groups": 2}),
    "channels first": (GROUP, (4, 256, 28, 28), {"axis": 1, "num_groups": 32}),
    "channels first, segments": (GROUP, (1, 8, 301, 307), {"axis": 1, "num_groups": 2}),
    "channels first, small images": (GROUP, (16, 512, 7, 7), {"axis": 1, "num_groups": 32}),
    "channels in the middle": (GROUP, (2, 12, 64, 50), {"axis": 2, "num_groups": 8}),
    "instances, channels last": (INSTANCE, (1, 256, 256, 32), {"axis": 3}),
    "instances, channels first": (INSTANCE, (2, 3, 300, 301), {"axis": 1}),
    "thousands of tiny groups": (INSTANCE, (100, 100, 3, 3), {"axis": 1}),
    "rows": (LAYER, (8, 100, 768), {"axes": [-1]}),
    "short rows": (LAYER, (64, 26, 26, 10), {"axes": [3]}),
    "odd rows": (LAYER, (1000, 97), {"axes": [1]}),
    "long rows": (LAYER, (3, 100_003), {"axes": [1]}),
    "columns": (LAYER, (500, 70), {"axes": [0]}),
    "wide columns": (LAYER, (12, 20_011), {"axes": [0]}),
    "middle axes": (LAYER, (3, 20, 30, 40), {"axes": [1, 2]}),
    "outer and inner axes": (LAYER, (30, 20, 40), {"axes": [0, 2]}),
    "every other axis": (LAYER, (6, 7, 8, 9, 10), {"axes": [0, 2, 4]}),
    "rows, uncentered": (LAYER, (8, 100, 768), {"axes": [-1], "subtract_mean": 0}),
    "rows, RMS": (RMS, (8, 100, 768), {"axes": [-1]}),
    "short rows, RMS": (RMS, (64, 26, 26, 10), {"axes": [3]}),
    "long rows, RMS": (RMS, (3, 100_003), {"axes": [1]}),
    "columns, unit": (UNIT, (500, 70), {"axes": [0]}),
    "rows, unit": (UNIT, (1000, 97), {"axes": [1]}),
    "every other axis, unit": (UNIT, (6, 7, 8, 9, 10), {"axes": [0, 2, 4]}),
    "filter response": (RESPONSE, (8, 28, 28, 64), {"axes": [1, 2]}),
    "filter response, segments": (RESPONSE, (2, 112, 112, 96), {"axes": [1, 2]}),
    "filter response, channels first": (RESPONSE, (4, 32, 50, 60), {"axes": [2, 3]}),
}


def parameter_shape(operator: str, shape: tuple[int, ...], attributes: dict[str, Any]) -> Any:
    return (shape[-1],) if "axes" in attributes else (shape[attributes["axis"]],)


#: Groups whose first or sampled elements say little about the rest.
ADVERSARIAL = {
    "far step": lambda n: np.where(np.arange(n) < n // 10, 1e4, np.sin(np.arange(n))),
    "late step": lambda n: np.where(np.arange(n) < n - 40, 0.0, 1e3),
    "first element": lambda n: np.where(np.arange(n) == 0, 1e6, np.cos(np.arange(n))),
    "sample points": lambda n: np.where(np.arange(n) % (n // 8) < 20, 1e4, np.cos(np.arange(n))),
    "ramp": lambda n: np.arange(n) * 1e2,
    "one in many": lambda n: np.where(np.arange(n) == n // 3, 1e5, 0.0),
    "tiny variance": lambda n: 1e3 + 1e-4 * np.cos(np.arange(n)),
    "beyond squares": lambda n: 1e25 * np.cos(np.arange(n)),
}


def adversarial(case: str, kind: str) -> Array:
    """X in float32, the same in every row where statistics are over the last axis, or sample."""
    operator, shape, attributes = LARGE[case]
    rows = "axes" in attributes and operator != RESPONSE
    flat = ADVERSARIAL[kind](shape[-1] if rows else math.prod(shape) // shape[0])
    flat = flat.astype(np.float32)
    return np.broadcast_to(flat.reshape((-1,) if rows else (1, *shape[1:])), shape).copy()
