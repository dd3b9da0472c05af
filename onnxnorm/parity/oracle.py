"""The float64 oracle: a traced Keras model, its own operations computed one by one in float64.

The graph of the traced function is interpreted: every operation runs eagerly on float64 tensors,
loops and calls in Python. Nothing of the converter takes part (no marker, no NormSpec, no operator
of ours), so a layer that the converter misreads is not misread here in the same way.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxnorm.capture import tensorflow
from onnxnorm.errors import VerificationError
from onnxnorm.parity import processor
from onnxnorm.parity.comparison import FLOATS

# Operations that look at the bits of a type, or hand it to code that expects it.
_TYPED = frozenset({"Bitcast", "PyFunc", "PyFuncStateless", "EagerPyFunc"})
# Where TensorFlow says that an eager operation failed: its wrapper and its type.
_PLACE = re.compile(r"\{\{function_node .*?\}\} ?| \[Op:\w+\] *$")
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_LOOPS = frozenset({"While", "StatelessWhile"})
_BRANCHES = frozenset({"If", "StatelessIf", "Case", "StatelessCase"})
_BATCH_NORMS = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"})
_DATAFLOW_V1 = frozenset({"Switch", "Merge", "Enter", "Exit", "NextIteration"})


@dataclass(frozen=True)
class Exact:
    """What the oracle found.

    Attributes:
        outputs: the function's outputs: float64 for floats, else as they are.
        precision: the coarsest of `comparison.FLOATS` that the function itself computes in.
        not_widened: TensorFlow operations that have no float64 form, computed as in the model.
        emptied: names of the operations that these inputs made return floats without any element,
            from inputs with elements.
    """

    outputs: tuple[npt.NDArray[Any], ...]
    precision: str
    not_widened: tuple[str, ...]
    emptied: tuple[str, ...] = ()


class EmptiedError(VerificationError):
    """The oracle does not run on inputs that leave a tensor without any element.

    Attributes:
        reason: which operation returned no element, and what failed then.
    """

    def __init__(self, operation: str, failure: str) -> None:
        self.reason = f"operation {operation!r} returns no element, then {failure}"
        super().__init__(f"on these inputs {self.reason}; pass larger inputs")


def evaluate(function: Any, inputs: Sequence[npt.NDArray[Any]]) -> Exact:
    """A traced function in float64.

    Args:
        function: a ``tf.ConcreteFunction`` with flat inputs and outputs; variables that it reads
            are taken with the values and in the dtypes in which they are stored.
        inputs: one array for each of its inputs.

    Raises:
        VerificationError: an operation that cannot be interpreted.
        EmptiedError: one that fails after these inputs left another one without elements.
    """
    tf = tensorflow()
    graph = function.graph
    definition = graph.as_graph_def()
    interpreter = _Interpreter({f.signature.name: f for f in definition.library.function})
    plan = _plan(
        definition.node,
        [tensor.name for tensor in graph.inputs],
        [tensor.name for tensor in function.outputs],
    )
    with tf.device("/cpu:0"):
        given = [_widened(tf.constant(array)) for array in inputs]
        captured = [_widened(tensor) for tensor in function.captured_inputs]
        try:
            outputs = interpreter.run(plan, [*given, *captured])
        except VerificationError as error:
            if interpreter.emptied:
                raise EmptiedError(next(iter(interpreter.emptied)), str(error)) from error
            raise
        arrays = tuple(output.numpy() for output in outputs)
    types = {name for name in interpreter.types if name in FLOATS}
    precision = min(types, key=FLOATS.index, default="float32")
    emptied = tuple(n for n in interpreter.emptied if not _is_always_empty(graph, n))
    return Exact(arrays, precision, tuple(sorted(interpreter.not_widened)), emptied)


def _is_always_empty(graph: Any, name: str) -> bool:
    """Whether the model itself says that an operation's result has no element."""
    try:
        operation = graph.get_operation_by_name(name)
    except (KeyError, ValueError):  # inside a function of the graph
        return False
    return any(output.shape.rank and 0 in output.shape.as_list() for output in operation.outputs)


@dataclass(frozen=True)
class _Step:
    """One operation: where its inputs come from, and how often each of its results is read."""

    node: Any
    inputs: tuple[tuple[str, int], ...]

    @cached_property
    def definition(self) -> Any:
        from tensorflow.python.framework import op_def_registry

        return op_def_registry.get(self.node.op)

    @cached_property
    def constant(self) -> Any:
        tf = tensorflow()
        return _widened(tf.constant(tf.make_ndarray(self.node.attr["value"].tensor)))


@dataclass(frozen=True)
class _Plan:
    """A graph or function body: what to run, in order, between its arguments and its results."""

    arguments: tuple[str, ...]
    steps: tuple[_Step, ...]
    results: tuple[tuple[str, int], ...]
    readers: Mapping[str, int]


def _plan(nodes: Any, arguments: Sequence[str], results: Sequence[str]) -> _Plan:
    """The steps that the results depend on through data; control edges only order effects."""
    by_name = {node.name: node for node in nodes}
    names = tuple(_source(argument)[0] for argument in arguments)
    fetched = tuple(_source(result) for result in results)
    steps: dict[str, _Step] = {}
    stack = [name for name, _ in reversed(fetched)]
    while stack:
        name = stack[-1]
        if name in steps or name in names:
            stack.pop()
            continue
        node = by_name[name]
        sources = tuple(_source(i) for i in node.input if not i.startswith("^"))
        waiting = [s for s, _ in sources if s not in steps and s not in names]
        if node.op in _DATAFLOW_V1:
            raise VerificationError(
                f"operation {name!r} ({node.op}) is control flow of TensorFlow 1, which the "
                "float64 oracle does not know"
            )
        if waiting:
            stack.extend(waiting)
        else:
            steps[name] = _Step(node, sources)
            stack.pop()
    readers = Counter(s for step in steps.values() for s, _ in step.inputs)
    readers.update(name for name, _ in fetched)
    return _Plan(names, tuple(steps.values()), fetched, readers)


def _source(reference: str) -> tuple[str, int]:
    name, _, index = reference.partition(":")
    return name, int(index or 0)


@dataclass
class _Interpreter:
    """Runs plans; notes float types, what it could not widen and what has no element."""

    library: Mapping[str, Any]
    types: set[str] = field(default_factory=set)
    not_widened: set[str] = field(default_factory=set)
    emptied: dict[str, None] = field(default_factory=dict)
    _bodies: dict[str, _Plan] = field(default_factory=dict)

    def run(self, plan: _Plan, arguments: Sequence[Any]) -> list[Any]:
        values: dict[str, list[Any]] = {
            name: [value] for name, value in zip(plan.arguments, arguments, strict=True)
        }
        unread = dict(plan.readers)
        for step in plan.steps:
            inputs = [values[name][index] for name, index in step.inputs]
            values[step.node.name] = self._step(step, inputs)
            for name, _ in step.inputs:
                unread[name] -= 1
                if not unread[name]:
                    del values[name]
        return [values[name][index] for name, index in plan.results]

    def _step(self, step: _Step, inputs: list[Any]) -> list[Any]:
        node = step.node
        if node.op == "Const":
            self._note_types(node)
            return [step.constant]
        if node.op in _CALLS:
            return self._call(node.attr["f"].func.name, inputs)
        if node.op in _LOOPS:
            return self._loop(node, inputs)
        if node.op in _BRANCHES:
            return self._call(_branch(node, inputs[0]), inputs[1:])
        if node.op in self.library:
            return self._call(node.op, inputs)
        self._note_types(node)
        results = (
            _batch_norm(node, inputs) if node.op in _BATCH_NORMS else self._execute(step, inputs)
        )
        if any(map(_is_empty, results)) and any(map(_has_elements, inputs)):
            self.emptied[node.name] = None
        return results

    def _call(self, name: str, inputs: Sequence[Any]) -> list[Any]:
        if name not in self._bodies:
            self._bodies[name] = _body(self.library[name])
        return self.run(self._bodies[name], inputs)

    def _loop(self, node: Any, inputs: list[Any]) -> list[Any]:
        condition, body = node.attr["cond"].func.name, node.attr["body"].func.name
        while bool(self._call(condition, inputs)[0]):
            inputs = self._call(body, inputs)
        return inputs

    def _execute(self, step: _Step, inputs: list[Any]) -> list[Any]:
        tf = tensorflow()
        errors = tf.errors
        is_typed = step.node.op in _TYPED or any(i.dtype == tf.resource for i in inputs)
        in_float64 = ""
        if not is_typed:
            try:
                return self._widened(step, _run(step, inputs, _wider))
            except (
                errors.InvalidArgumentError,
                errors.NotFoundError,
                errors.UnimplementedError,
            ) as e:
                in_float64 = f" (in float64: {_first_line(e)})"
        original = [
            value if value.dtype == dtype else tf.cast(value, dtype)
            for value, dtype in zip(inputs, _types(step, step.definition.input_arg), strict=True)
        ]
        try:
            results = _run(step, original, lambda dtype: dtype)
        except Exception as error:
            told = (
                f"operation {step.node.name!r} ({step.node.op}) does not run in the float64 oracle"
            )
            reason = f"{_first_line(error)}{in_float64}"
            if processor.is_limit(reason):
                raise VerificationError(
                    f"{told} on this processor: {processor.advice()} ({reason})"
                ) from error
            raise VerificationError(f"{told}: {reason}") from error
        return [_widened(value) for value in results] if is_typed else self._widened(step, results)

    def _widened(self, step: _Step, results: Sequence[Any]) -> list[Any]:
        wide = [_widened(value) for value in results]
        if any(new is not old for new, old in zip(wide, results, strict=True)):
            self.not_widened.add(step.node.op)
        return wide

    def _note_types(self, node: Any) -> None:
        tf = tensorflow()
        for attribute in node.attr.values():
            types = attribute.list.type if attribute.HasField("list") else [attribute.type]
            self.types.update(tf.as_dtype(number).name for number in types if number)


def _body(function: Any) -> _Plan:
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def

    graph, flat_names = function_def_to_graph_def(function)
    return _plan(
        graph.node,
        [argument.name for argument in function.signature.input_arg],
        [flat_names[function.ret[result.name]] for result in function.signature.output_arg],
    )


def _branch(node: Any, selector: Any) -> str:
    if node.op.endswith("If"):
        taken = bool(selector) if selector.shape.rank == 0 else bool(np.size(selector.numpy()))
        name: str = node.attr["then_branch" if taken else "else_branch"].func.name
        return name
    branches = node.attr["branches"].list.func
    index = int(selector)
    in_range = 0 <= index < len(branches)
    name = branches[index if in_range else len(branches) - 1].name
    return name


def _run(step: _Step, inputs: Sequence[Any], type_of: Callable[[Any], Any]) -> list[Any]:
    """Runs an operation on these inputs; attributes that are types go through ``type_of``."""
    from tensorflow.python.eager import context
    from tensorflow.python.eager.execute import quick_execute

    # Not through tf.raw_ops, which renames and reorders the arguments of some operations.
    attributes: list[Any] = []
    for attribute in step.definition.attr:
        if attribute.name in step.node.attr:
            value = _value(step.node.attr[attribute.name], type_of)
            attributes += [attribute.name, value]
    count = len(_types(step, step.definition.output_arg))
    return list(
        quick_execute(step.node.op, count, list(inputs), tuple(attributes), context.context())
    )


def _types(step: _Step, arguments: Sequence[Any]) -> list[Any]:
    """The dtypes of an operation's inputs or outputs in the model itself."""
    return [dtype for argument in arguments for dtype in _argument_types(step.node, argument)]


def _argument_types(node: Any, argument: Any) -> list[Any]:
    tf = tensorflow()
    if argument.type_list_attr:
        return [tf.as_dtype(t) for t in node.attr[argument.type_list_attr].list.type]
    number = argument.type or node.attr[argument.type_attr].type
    count = node.attr[argument.number_attr].i if argument.number_attr else 1
    return [tf.as_dtype(number)] * count


def _value(attribute: Any, type_of: Callable[[Any], Any]) -> Any:
    tf = tensorflow()
    kind = attribute.WhichOneof("value")
    if kind == "list":
        if attribute.list.type:
            return [type_of(tf.as_dtype(t)).as_datatype_enum for t in attribute.list.type]
        # An empty list does not say of what.
        if attribute.list.shape:
            return [_shape(value) for value in attribute.list.shape]
        fields = attribute.list.ListFields()
        return list(fields[0][1]) if fields else []
    value = getattr(attribute, kind)
    if kind == "shape":
        return _shape(value)
    return type_of(tf.as_dtype(value)).as_datatype_enum if kind == "type" else value


def _shape(value: Any) -> list[int] | None:
    """A shape as TensorFlow's eager execution takes it: -1 for an unknown size."""
    return None if value.unknown_rank else [dim.size for dim in value.dim]


def _wider(dtype: Any) -> Any:
    tf = tensorflow()
    if dtype in (tf.float16, tf.bfloat16, tf.float32):
        return tf.float64
    return tf.complex128 if dtype == tf.complex64 else dtype


def _widened(value: Any) -> Any:
    tf = tensorflow()
    wider = _wider(value.dtype)
    return value if wider == value.dtype else tf.cast(value, wider)


def _batch_norm(node: Any, inputs: Sequence[Any]) -> list[Any]:
    """FusedBatchNorm, which has no float64 kernel, as its formula.

    Keras 2 also computes layer normalization with it, in training mode. The results after the
    variance serve gradients only.
    """
    tf = tensorflow()
    x, scale, offset, mean, variance = inputs
    axis = _channel_axis(node.attr["data_format"].s, x.shape.rank)
    others = [a for a in range(x.shape.rank) if a != axis]
    spread = [-1 if a == axis else 1 for a in range(x.shape.rank)]
    unbiased = variance
    if node.attr["is_training"].b:
        mean = tf.reduce_mean(x, others)
        variance = tf.reduce_mean(tf.square(x - tf.reshape(mean, spread)), others)
        count = tf.cast(tf.size(x) / tf.size(mean), tf.float64)
        unbiased = variance * count / tf.maximum(count - 1, 1)
    epsilon = tf.constant(node.attr["epsilon"].f, tf.float64)
    scale, offset, center, deviation = (
        tf.reshape(value, spread) for value in (scale, offset, mean, tf.sqrt(variance + epsilon))
    )
    y = (x - center) / deviation * scale + offset
    return [y, mean, unbiased, mean, variance, mean]


def _is_empty(value: Any) -> bool:
    return bool(value.dtype.is_floating) and value.shape.num_elements() == 0


def _has_elements(value: Any) -> bool:
    """Whether a value is an array of floats with elements; a single number fills any shape."""
    return bool(value.dtype.is_floating and value.shape.rank and value.shape.num_elements())


def _channel_axis(data_format: bytes, rank: int) -> int:
    return 1 if data_format.startswith(b"NC") else rank - 1


def _first_line(error: Exception) -> str:
    lines = _PLACE.sub("", str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__
