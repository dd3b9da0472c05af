"""A formula that does not fit its layer is refused in words that name the layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from onnxnorm.errors import ConversionError
from onnxnorm.frameworks.formula import Formula, fitted


@dataclass
class Layer:
    name: str = "mine"
    compute_dtype: str = "float32"


def values(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (None, "returned None; expected an onnxnorm.Formula"),
        (Formula("Softmax", [1], 0.1), "unknown operator 'Softmax'"),  # type: ignore[arg-type]
        (Formula("RMSNormalization", [4], 0.1), r"axes \(4,\) of the input"),
        (Formula("RMSNormalization", [], 0.1), r"axes \(\) of the input"),
        (Formula("RMSNormalization", [1, -3], 0.1), "distinct axes"),
        (Formula("GroupNormalization", [0], 0.1, groups=1), "other than the batch axis"),
        (Formula("GroupNormalization", [1, 3], 0.1, groups=2), "one axis"),
        (Formula("InstanceNormalization", [2], 0.1), "axis 2 .* no static size"),
        (Formula("GroupNormalization", [3], 0.1, groups=4), "4 groups; .* 6 channels"),
        (Formula("GroupNormalization", [3], 0.1), "None groups"),
        (Formula("RMSNormalization", [3], float("nan")), "epsilon nan"),
        (Formula("RMSNormalization", [3], -1e-3), "epsilon -0.001"),
        (Formula("RMSNormalization", [3], 1e39), r"epsilon 1e\+39; expected 0 to what float32"),
        (Formula("RMSNormalization", [3], 0.1, scale=values(5)), r"scale of shape \(5,\)"),
        (Formula("RMSNormalization", [3], 0.1, bias=values(2, 4)), "expected 6 values or what"),
        (Formula("RMSNormalization", [3], 0.1, scale=values(1, 1, 1, 4, 1)), "scale"),
        (Formula("RMSNormalization", [1], 0.1, values(4), parameter_shape=(4,)), "scale of shape"),
        (Formula("GroupNormalization", [3], 0.1, groups=2, scale=values(1)), "expected 6 values"),
    ],
)
def test_misfit(formula: Any, message: str) -> None:
    with pytest.raises(ConversionError, match=f"layer 'mine': .*{message}"):
        fitted(formula, Layer(), (None, 4, None, 6))


@pytest.mark.parametrize(
    ("formula", "shape"),
    [
        (Formula("RMSNormalization", [-1], 0.1, scale=values(6)), (6,)),
        (Formula("RMSNormalization", [1, 3], 0.1, scale=values(4, 6)), (4, 1, 6)),
        (Formula("LayerNormalization", [1], 0.1, bias=values(4)), (4, 1, 1)),
        (Formula("LayerNormalization", [2], 0.1), (1, 1)),
        (Formula("RMSNormalization", [1, 2], 0.1, scale=values(1, 1, 1, 6)), (1, 1, 1, 6)),
        (Formula("RMSNormalization", [1], 0.1, scale=np.float32(2)), (1,)),
        (Formula("UnitNormalization", [1], 1e-12), (1,)),
        (Formula("InstanceNormalization", [-3], 0.1), (4,)),
        (Formula("RMSNormalization", [3], 0.1, values(6), parameter_shape=(1, 6)), (1, 6)),
    ],
)
def test_parameter_shapes(formula: Formula, shape: tuple[int, ...]) -> None:
    result = fitted(formula, Layer(), (None, 4, None, 6))
    assert result.scale.shape == result.bias.shape == shape
    assert (result.spec.has_scale, result.spec.has_bias) == (
        formula.scale is not None,
        formula.bias is not None,
    )
