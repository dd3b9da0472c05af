"""bfloat16 arrays in and out of a session."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from onnxnorm import feeding
from tests.custom_ops.nodes import wrap

ml_dtypes = pytest.importorskip("ml_dtypes")
pytestmark = pytest.mark.skipif(
    not hasattr(onnxruntime.OrtValue, "ortvalue_from_numpy_with_onnx_type"),
    reason="ONNX Runtime before 1.20 does not exchange bfloat16",
)


def session(rank: int | None) -> Any:
    """X as it is, as bfloat16 and as float32."""
    shape = None if rank is None else [None] * rank
    elements = (TensorProto.BFLOAT16, TensorProto.FLOAT)
    nodes = [
        helper.make_node("Identity", ["X"], ["Y"]),
        helper.make_node("Cast", ["X"], ["Z"], to=TensorProto.FLOAT),
    ]
    x, y, z = (
        helper.make_tensor_value_info(name, element, shape)
        for name, element in zip("XYZ", (elements[0], *elements), strict=True)
    )
    proto = wrap(helper.make_graph(nodes, "as_it_is", [x], [y, z]))
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3,), (2, 0), (2, 3), (1, 1, 1), (2, 3, 4, 2)])
def test_every_rank_keeps_its_shape(shape: tuple[int, ...], known: bool) -> None:
    values = np.random.default_rng(0).standard_normal(shape).astype(ml_dtypes.bfloat16)
    x = np.asarray(values).reshape(shape)
    y, z = feeding.run(session(len(shape) if known else None), None, {"X": x})
    assert (y.dtype, y.shape, z.shape) == (x.dtype, shape, shape)
    np.testing.assert_array_equal(y.view(np.uint16), x.view(np.uint16))
    np.testing.assert_array_equal(z, x.astype(np.float32))


@pytest.mark.parametrize("x", [1.5, np.float32(1.5), ml_dtypes.bfloat16(1.5), [1.5, 2.0]])
def test_what_numpy_makes_an_array_of(x: Any) -> None:
    y, _ = feeding.run(session(None), None, {"X": x})
    assert y.shape == np.shape(x)
    np.testing.assert_array_equal(y.astype(np.float32), x)


@pytest.mark.parametrize("view", ["transposed", "strided", "reversed"])
def test_views(view: str) -> None:
    whole = np.arange(24).reshape(4, 6).astype(ml_dtypes.bfloat16)
    x = {"transposed": whole.T, "strided": whole[::2, 1::2], "reversed": whole[::-1]}[view]
    y, _ = feeding.run(session(2), None, {"X": x})
    np.testing.assert_array_equal(y.view(np.uint16), np.asarray(x, order="C").view(np.uint16))
