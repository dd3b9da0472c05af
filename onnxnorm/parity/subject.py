"""The Keras model under test as one traced function: its inputs, its outputs, its own result."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxnorm import capture
from onnxnorm.errors import ConversionError, VerificationError
from onnxnorm.parity import domains, processor
from onnxnorm.parity.inputs import InputSpec

Array = npt.NDArray[Any]

# Lines of TensorFlow's errors that say where and not what.
_NOT_A_REASON = re.compile(
    r"Graph execution error|Detected at node|File \"|\[\[|Stack trace|<stack|\d+ root error|"
    r"\(\d+\) +\w+: *$|Original stack|Errors may have originated"
)


@dataclass(frozen=True)
class Subject:
    """A model traced for inference as Keras itself computes it, without any marker.

    Attributes:
        name: the model's name.
        function: the ``tf.ConcreteFunction``, flat inputs to flat outputs.
        inputs: what it takes, in order.
        output_names: names of its outputs, in order.
        named_sizes: sizes that its operations and weights speak of, the likelier ones first.
    """

    name: str
    function: Any
    inputs: tuple[InputSpec, ...]
    output_names: tuple[str, ...]
    named_sizes: tuple[int, ...]


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
        named_sizes=tuple(domains.named_sizes(traced.function, placeholders)),
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


class KerasError(VerificationError):
    """Keras cannot compute a model on these inputs.

    Attributes:
        reason: what TensorFlow says, with the operation.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def run(model: Subject, inputs: Sequence[Array]) -> list[Array]:
    """What Keras computes, each output in its own dtype.

    Raises:
        KerasError: it fails on these inputs, as it may not on others.
        VerificationError: it cannot be computed on this processor.
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
        reason = _reason(error)
        if processor.is_limit(reason):
            raise VerificationError(
                f"model {model.name!r} cannot be computed by Keras on this processor: "
                f"{processor.advice()} ({reason})"
            ) from error
        raise KerasError(
            f"model {model.name!r} fails in Keras on these inputs: {reason}; pass inputs that it "
            "takes",
            reason,
        ) from error
    return [np.asarray(output.numpy()) for output in outputs]


def _reason(error: Any) -> str:
    """The first of TensorFlow's lines that says what went wrong, and the operation."""
    text = str(error.message)
    node = re.search(r"Detected at node '?([^\s']+)", text) or re.search(r"{{node (\S+?)}}", text)
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line and not _NOT_A_REASON.match(line)]
    reason = said[0] if said else type(error).__name__
    return f"operation {node[1]!r}: {reason}" if node else reason


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
