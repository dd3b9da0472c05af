"""Sessions run on arrays of every dtype, bfloat16 included, which ONNX Runtime's Python lacks."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from onnxnorm.errors import MissingDependencyError

_BFLOAT16 = "tensor(bfloat16)"


def run(
    session: Any,
    output_names: Sequence[str] | None,
    input_feed: Mapping[str, Any],
    run_options: Any = None,
) -> list[Any]:
    """Runs any session, bfloat16 inputs and outputs included, which its own ``run`` cannot take.

    Raises:
        MissingDependencyError: for bfloat16, ``ml_dtypes`` or onnxruntime 1.20 is missing.
    """
    import onnxruntime

    plain = onnxruntime.InferenceSession.run
    names = output_names or [value.name for value in session.get_outputs()]
    types = {v.name: v.type for v in (*session.get_inputs(), *session.get_outputs())}
    if all(types.get(name) != _BFLOAT16 for name in (*names, *input_feed)):
        result: list[Any] = plain(session, output_names, input_feed, run_options)
        return result
    values = ort_values(session, input_feed)
    results = session.run_with_ort_values(names, values, run_options)
    return [_array(value, bfloat16()) for value in results]


def ort_values(session: Any, input_feed: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays, of any dtype, as what ``session.run_with_ort_values`` takes.

    Raises:
        MissingDependencyError: for bfloat16, ``ml_dtypes`` or onnxruntime 1.20 is missing.
    """
    types = {value.name: value.type for value in session.get_inputs()}
    return {
        name: _ort_value(np.asarray(array, bfloat16() if types.get(name) == _BFLOAT16 else None))
        for name, array in input_feed.items()
    }


def bfloat16() -> np.dtype[Any]:
    """The dtype of bfloat16 arrays.

    Raises:
        MissingDependencyError: ``ml_dtypes`` or onnxruntime 1.20 is missing.
    """
    try:
        import ml_dtypes
    except ImportError as error:
        raise MissingDependencyError(
            "the model has bfloat16 inputs or outputs, for which ml_dtypes is needed: "
            "pip install ml_dtypes"
        ) from error
    import onnxruntime

    if not hasattr(onnxruntime.OrtValue, "ortvalue_from_numpy_with_onnx_type"):
        raise MissingDependencyError(
            f"the model has bfloat16 inputs or outputs, which onnxruntime "
            f"{onnxruntime.__version__} cannot exchange with Python: install 1.20 or later"
        )
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found


def _ort_value(array: np.ndarray[Any, Any]) -> Any:
    import onnxruntime

    if array.dtype.name != "bfloat16":
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(
        np.asarray(array, order="C").view(np.uint16), onnx.TensorProto.BFLOAT16
    )


def _array(value: Any, dtype: np.dtype[Any]) -> Any:
    if value.data_type() != _BFLOAT16:
        return value.numpy()
    shape = tuple(value.shape())
    content = ctypes.string_at(value.data_ptr(), math.prod(shape) * dtype.itemsize)
    return np.frombuffer(content, dtype).reshape(shape).copy()
