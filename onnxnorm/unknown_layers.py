"""Layers of unknown classes that normalize: their own calls, as functions to be examined."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from onnxnorm.frameworks import recognize
from onnxnorm.frameworks.formula import Formula
from onnxnorm.frameworks.measured import NoFormulaError, formula_of, is_large

# Their layers that normalize are known.
_FRAMEWORKS = frozenset({"keras", "tf_keras", "tensorflow", "tensorflow_addons"})
_ROOTS = frozenset({"Rsqrt", "Sqrt", "Pow", "FusedBatchNormV3"})
# What formulas are written in. With others, such as a choice between two values, a call may
# compute something else for an input that is not tried.
_OPERATIONS = _ROOTS | {
    "Abs",
    "Add",
    "AddN",
    "AddV2",
    "BatchMatMulV2",
    "BiasAdd",
    "BroadcastTo",
    "Cast",
    "CheckNumerics",
    "ConcatV2",
    "Const",
    "Div",
    "DivNoNan",
    "Einsum",
    "EnsureShape",
    "Exp",
    "ExpandDims",
    "Fill",
    "FloorDiv",
    "GatherV2",
    "Identity",
    "IdentityN",
    "Inv",
    "MatMul",
    "Maximum",
    "Mean",
    "Mul",
    "Neg",
    "NoOp",
    "OnesLike",
    "Pack",
    "PartitionedCall",
    "Placeholder",
    "PreventGradient",
    "Prod",
    "Range",
    "Rank",
    "ReadVariableOp",
    "RealDiv",
    "Reciprocal",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Size",
    "Slice",
    "Softplus",
    "Split",
    "SplitV",
    "Square",
    "SquaredDifference",
    "Squeeze",
    "StatefulPartitionedCall",
    "StopGradient",
    "StridedSlice",
    "Sub",
    "Sum",
    "Tile",
    "Transpose",
    "Unpack",
    "VarHandleOp",
    "ZerosLike",
}
# The farthest that rounding takes a layer's results from those in float64, of their largest.
_FAR = {"float64": 1e-4, "float32": 1e-2, "bfloat16": 0.5, "float16": 0.5}


def may_normalize(tf: Any, layer: Any) -> bool:
    """Whether a layer's call is the class's own, of a class and with operations unknown to us."""
    call = getattr(type(layer), "call", None)
    package = (getattr(call, "__module__", None) or "").partition(".")[0]
    return (
        package not in _FRAMEWORKS
        and "call" not in vars(layer)
        and not isinstance(layer, tf.keras.Model)
        and recognize(layer) is None
    )


def formula(
    tf: Any, layer: Any, call: Callable[..., Any], x: Any, training: dict[str, Any]
) -> tuple[Formula, Any] | None:
    """The formula of a layer's call, and the dtype of its result; None if it does not normalize.

    Args:
        tf: the ``tensorflow`` module.
        layer: the layer.
        call: the layer's own call.
        x: the tensor that the layer is called with.
        training: the argument of that name, if it was given.

    Raises:
        NoFormulaError: the call is not one of the formulas.
    """

    def traced(shape: Any) -> Any:
        own = tf.function(partial(call, **training))
        return own.get_concrete_function(tf.TensorSpec(shape, x.dtype))

    with tf.init_scope():  # out of the trace, where the variables have values
        try:
            function = traced(x.shape)
            operations = _operations(function)
            if not operations & _ROOTS:
                return None
            _check(tf, function, x, operations)
            shape = tuple(x.shape.as_list())
            examined = function
            if is_large(shape):
                # A formula that holds for all sizes holds for these.
                own_sizes = {size for weight in layer.weights for size in weight.shape}
                shape = tuple(size if size in own_sizes else None for size in shape)
                examined = traced(shape)
            compute = partial(_in_float64, examined)
            found = formula_of(compute, shape)
            _compare(tf, function, compute, x)
            return found, function.outputs[0].dtype
        except NoFormulaError:
            raise
        except Exception as error:  # what cannot be examined converts as it did before
            raise NoFormulaError(f"it cannot be examined: {type(error).__name__}") from error


def _operations(function: Any) -> set[str]:
    graph_def = function.graph.as_graph_def()
    functions = graph_def.library.function
    nodes = [graph_def.node, *(definition.node_def for definition in functions)]
    names = {definition.signature.name for definition in functions}
    return {node.op for part in nodes for node in part} - names


def _check(tf: Any, function: Any, x: Any, operations: set[str]) -> None:
    outputs = function.outputs
    if not tf.is_tensor(function.structured_outputs):
        raise NoFormulaError("it returns something else than one tensor")
    shape = outputs[0].shape
    if shape.rank != x.shape.rank or not shape.is_compatible_with(x.shape):
        raise NoFormulaError(f"its result has the shape {shape}, its input {x.shape}")
    if not outputs[0].dtype.is_floating:
        raise NoFormulaError(f"its result is {outputs[0].dtype.name}")
    others = sorted(operations - _OPERATIONS)
    if others:
        raise NoFormulaError(f"it runs the operation {', '.join(others)}")


def _in_float64(function: Any, values: Any) -> Any:
    """The results of a traced call."""
    # Imported here, as the oracle rests on what rests on this module.
    from onnxnorm.parity import oracle

    exact = oracle.evaluate(function, [values])
    (result,) = exact.outputs
    if exact.not_widened:
        raise NoFormulaError(f"{exact.not_widened[0]} has no float64 form")
    if result.shape != values.shape:
        raise NoFormulaError(f"its result for {values.shape} has the shape {result.shape}")
    return result


def _compare(tf: Any, function: Any, compute: Callable[[Any], Any], x: Any) -> None:
    """Makes sure that the results that were examined are those of the layer."""
    values = tf.cast(np.random.default_rng(0).normal(size=[s or 1 for s in x.shape]), x.dtype)
    own, exact = (np.float64(y) for y in (function(values), compute(np.float64(values))))
    if not np.abs(own - exact).max() <= _FAR[x.dtype.name] * np.abs(exact).max():
        raise NoFormulaError("its own results are not those of its operations in float64")
