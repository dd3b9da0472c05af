"""The Keras model under test as one traced function: its inputs, its outputs, its own result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxnorm import capture
from onnxnorm.errors import ConversionError, VerificationError
from onnxnorm.parity import domains
from onnxnorm.parity.inputs import InputSpec

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Subject:
    """A model traced for inference as Keras itself computes it, without any marker.

    Attributes:
        name: the model's name.
        function: the ``tf.ConcreteFunction``, flat inputs to flat outputs.
        inputs: what it takes, in order.
        output_names: names of its outputs, in order.
    """

    name: str
    function: Any
    inputs: tuple[InputSpec, ...]
    output_names: tuple[str, ...]


def trace(model: Any, inputs: Any = None) -> Subject:
    """The model as it is verified, with inputs and outputs named as the converter names them.

    Args:
        model: a Keras model.
        inputs: an array, or a list or dictionary of arrays, as the model takes them; used for a
            model that was never called.

    Raises:
        VerificationError: the model cannot be traced, or its inputs are not known.
    """
    try:
        traced = capture.trace(model, marked=False)
    except ConversionError as error:
        if inputs is None:
            raise VerificationError(f"{error} (in verify: pass inputs)") from error
        traced = _trace_for(model, _signature(inputs))
    placeholders = traced.function.inputs[: len(traced.input_names)]
    layers = capture.layers(model)
    return Subject(
        name=model.name,
        function=traced.function,
        inputs=tuple(
            _input_spec(name, placeholder, traced.function, layers)
            for name, placeholder in zip(traced.input_names, placeholders, strict=True)
        ),
        output_names=traced.output_names,
    )


def _input_spec(name: str, placeholder: Any, function: Any, layers: Sequence[Any]) -> InputSpec:
    shape, dtype = placeholder.shape, placeholder.dtype
    looked_up = domains.is_looked_up(placeholder)
    return InputSpec(
        name,
        None if shape.rank is None else tuple(shape.as_list()),
        dtype.name,
        _is_integral(placeholder),
        domains.index_limit(placeholder, function),
        domains.vocabulary(layers, dtype.name == "string") if looked_up else (),
    )


def run(model: Subject, inputs: Sequence[Array]) -> list[Array]:
    """What Keras computes, each output in its own dtype.

    Raises:
        VerificationError: TensorFlow cannot compute it for these inputs.
    """
    tf = capture.tensorflow()
    tensors = [tf.constant(array) for array in inputs]
    try:
        try:
            outputs = model.function(*tensors)
        except tf.errors.InvalidArgumentError:
            # TensorFlow 2.15 joins float16 layer normalizations into an operation without float16.
            with _no_remapping(tf):
                outputs = model.function(*tensors)
    except tf.errors.OpError as error:
        raise VerificationError(
            f"model {model.name!r} fails in Keras on these inputs: {error.message}; pass "
            "inputs that it takes"
        ) from error
    return [np.asarray(output.numpy()) for output in outputs]


@contextmanager
def _no_remapping(tf: Any) -> Iterator[None]:
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"remapping": False})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"remapping": before.get("remapping", True)})


def _is_integral(placeholder: Any) -> bool:
    """Whether all that reads the input casts it to integers."""
    readers = placeholder.consumers()
    return bool(readers) and all(
        operation.type == "Cast" and operation.get_attr("DstT").is_integer for operation in readers
    )


def _trace_for(model: Any, signature: Any) -> capture.Trace:
    try:
        return capture.trace(model, signature, marked=False)
    except ConversionError as error:
        raise VerificationError(f"the inputs do not fit: {error}") from error


def _signature(inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return {name: _with_free_batch(array, name) for name, array in inputs.items()}
    if isinstance(inputs, (list, tuple)):
        return [_with_free_batch(array) for array in inputs]
    return _with_free_batch(inputs)


def _with_free_batch(array: Any, name: str | None = None) -> Any:
    tf = capture.tensorflow()
    array = np.asarray(array)
    return tf.TensorSpec([None, *array.shape[1:]] if array.ndim else [], array.dtype, name=name)
