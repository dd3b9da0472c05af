"""Complex tensors of a frozen graph as pairs of real ones, Fourier transforms as matrix products.

ONNX has complex element types, and no operator that computes with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from onnxnorm import fourier
from onnxnorm.errors import ConversionError


class Parts(NamedTuple):
    """A complex tensor; without an imaginary part it is a real one."""

    real: Any
    imag: Any | None = None


# Operators that treat both parts alike.
_BY_PART = frozenset(
    {
        "AddN",
        "AddV2",
        "Add",
        "BatchToSpaceND",
        "BroadcastTo",
        "ConcatV2",
        "Cumsum",
        "ExpandDims",
        "Fill",
        "GatherNd",
        "GatherV2",
        "Identity",
        "IdentityN",
        "MatrixDiagPartV3",
        "MatrixDiagV3",
        "Mean",
        "MirrorPad",
        "Neg",
        "Pack",
        "Pad",
        "PadV2",
        "PreventGradient",
        "Reshape",
        "ReverseV2",
        "Roll",
        "Select",
        "SelectV2",
        "Slice",
        "Snapshot",
        "SpaceToBatchND",
        "Split",
        "SplitV",
        "Squeeze",
        "StopGradient",
        "StridedSlice",
        "Sub",
        "Sum",
        "Tile",
        "Transpose",
        "Unpack",
        "ZerosLike",
    }
)
_OF_SHAPE = frozenset({"Rank", "Shape", "Size"})
_PRODUCTS = frozenset({"BatchMatMul", "BatchMatMulV2", "Einsum", "MatMul", "Mul"})


def in_real_parts(
    tf: Any, graph_def: Any, outputs: Sequence[str], at_layer: Callable[[str], str]
) -> None:
    """Replaces the complex numbers of a graph, in place; names of real results stay.

    Args:
        tf: the ``tensorflow`` module.
        graph_def: a frozen ``GraphDef``. The functions in its library stay as they are.
        outputs: names of the tensors that the model returns.
        at_layer: the layer that an operation stands in, as the beginning of an error's sentence.

    Raises:
        ConversionError: an operator on complex numbers has no form in real ones, or the model
            returns complex numbers.
    """
    if not any(_has_complex(tf, node) for node in graph_def.node):
        return
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
        given = [op for op in graph.get_operations() if _is_complex_operation(op)]
        parts: dict[str, Parts] = {}
        real: dict[str, Any] = {}
        for op in given:
            with tf.name_scope(f"{op.name}/"), graph.control_dependencies(None):
                try:
                    results = _results(tf, op, [parts.get(t.name, t) for t in op.inputs])
                except ConversionError as error:
                    raise ConversionError(f"{at_layer(op.name)}{error}") from error
            for tensor, result in zip(op.outputs, results, strict=True):
                if isinstance(result, Parts):
                    parts[tensor.name] = result
                else:
                    real[op.name] = result
        for name in outputs:
            if name in parts:
                operation = name.partition(":")[0]
                raise ConversionError(
                    f"{at_layer(operation)}the model's output {operation!r} is complex; return "
                    "its real and imaginary parts (tf.math.real, tf.math.imag)"
                )
        rewritten = graph.as_graph_def(add_shapes=True)
    names = {op.name for op in given}
    kept = [node for node in rewritten.node if node.name not in names or node.name in real]
    for node in kept:
        if node.name in real:
            dtype, shapes = real[node.name].dtype, node.attr["_output_shapes"]
            name = node.name
            node.Clear()
            node.name, node.op = name, "Identity"
            node.input.append(real[name].name)
            node.attr["T"].type = dtype.as_datatype_enum
            node.attr["_output_shapes"].CopyFrom(shapes)
    del graph_def.node[:]
    graph_def.node.extend(kept)


def _has_complex(tf: Any, node: Any) -> bool:
    complex_types = {tf.complex64.as_datatype_enum, tf.complex128.as_datatype_enum}
    return any(
        value.type in complex_types or complex_types.intersection(value.list.type)
        for value in node.attr.values()
    )


def _is_complex_operation(op: Any) -> bool:
    return any(tensor.dtype.is_complex for tensor in (*op.inputs, *op.outputs))


def _results(tf: Any, op: Any, inputs: list[Any]) -> list[Any]:
    """The operation's results, the complex ones as `Parts`; so are its inputs."""
    kind = op.type
    if kind == "Const":
        return [_constant(tf, tf.make_ndarray(op.get_attr("value")))]
    if kind in _BY_PART:
        return _by_part(tf, op, inputs)
    if kind in _OF_SHAPE:
        return [_apply(tf, op, [x.real if isinstance(x, Parts) else x for x in inputs])[0]]
    if kind in _PRODUCTS and len(inputs) == 2:
        return [_product(tf, op, *inputs)]
    if kind in fourier.TRANSFORMS:
        return [Parts(*y) if isinstance(y := fourier.transform(tf, op, inputs), tuple) else y]
    if kind in _FORMS:
        return [_FORMS[kind](tf, op, *inputs)]
    raise ConversionError(
        f"TensorFlow operator {kind} ({op.name}) of complex numbers has no form in real ones; "
        "compute with their real and imaginary parts (tf.math.real, tf.math.imag)"
    )


def _constant(tf: Any, value: Any) -> Parts:
    return Parts(tf.constant(value.real), tf.constant(value.imag) if value.imag.any() else None)


def _by_part(tf: Any, op: Any, inputs: list[Any]) -> list[Any]:
    real = _apply(tf, op, [x.real if isinstance(x, Parts) else x for x in inputs])
    if all(x.imag is None for x in inputs if isinstance(x, Parts)):
        return [Parts(y) for y in real]
    imag = _apply(tf, op, [_imag(tf, x) if isinstance(x, Parts) else x for x in inputs])
    return [Parts(*pair) for pair in zip(real, imag, strict=True)]


def _imag(tf: Any, x: Parts) -> Any:
    return tf.zeros_like(x.real) if x.imag is None else x.imag


def _apply(tf: Any, op: Any, inputs: list[Any]) -> list[Any]:
    """The same operation on real tensors."""
    of_part = {
        tf.complex64.as_datatype_enum: tf.float32,
        tf.complex128.as_datatype_enum: tf.float64,
    }
    attributes = {}
    for name, value in op.node_def.attr.items():
        if name.startswith("_"):
            continue
        copied = type(value)()
        copied.CopyFrom(value)
        if value.type in of_part:
            copied.type = of_part[value.type].as_datatype_enum
        attributes[name] = copied
    dtypes = [_real_dtype(tf, tensor.dtype) for tensor in op.outputs]
    made = op.graph.create_op(op.type, inputs, dtypes, attrs=attributes, op_def=op.op_def)
    for old, new in zip(op.outputs, made.outputs, strict=True):
        new.set_shape(old.shape)
    return list(made.outputs)


def _real_dtype(tf: Any, dtype: Any) -> Any:
    return dtype.real_dtype if dtype.is_complex else dtype


def _product(tf: Any, op: Any, a: Parts, b: Parts) -> Parts:
    """What is linear in both of its operands."""

    def of(x: Any, y: Any) -> Any:
        return None if x is None or y is None else _apply(tf, op, [x, y])[0]

    # An adjoint operand of a matrix product is conjugated; that of real ones is transposed.
    if op.type.startswith("BatchMatMul"):
        a = _conjugate(tf, op, a) if op.get_attr("adj_x") else a
        b = _conjugate(tf, op, b) if op.get_attr("adj_y") else b
    real, crossed = of(a.real, b.real), of(a.imag, b.imag)
    imag = [y for y in (of(a.real, b.imag), of(a.imag, b.real)) if y is not None]
    if crossed is not None:
        real -= crossed
    return Parts(real, tf.add_n(imag) if imag else None)


def _conjugate(tf: Any, op: Any, x: Parts) -> Parts:
    return Parts(x.real, None if x.imag is None else -x.imag)


def _conjugate_transpose(tf: Any, op: Any, x: Parts, perm: Any) -> Parts:
    parts = _conjugate(tf, op, x)
    return Parts(*(None if y is None else tf.transpose(y, perm) for y in parts))


def _quotient(tf: Any, op: Any, a: Parts, b: Parts) -> Parts:
    if b.imag is None:
        return Parts(a.real / b.real, None if a.imag is None else a.imag / b.real)
    norm = tf.square(b.real) + tf.square(b.imag)
    a_imag = _imag(tf, a)
    real = (a.real * b.real + a_imag * b.imag) / norm
    return Parts(real, (a_imag * b.real - a.real * b.imag) / norm)


def _absolute(tf: Any, op: Any, x: Parts) -> Any:
    if x.imag is None:
        return tf.abs(x.real)
    # Scaled, so that no square overflows or vanishes.
    a, b = tf.abs(x.real), tf.abs(x.imag)
    most = tf.maximum(a, b)
    ratio = tf.math.divide_no_nan(tf.minimum(a, b), most)
    return most * tf.sqrt(1 + tf.square(ratio))


def _angle(tf: Any, op: Any, x: Parts) -> Any:
    return tf.atan2(_imag(tf, x), x.real)


def _cast(tf: Any, op: Any, x: Any) -> Any:
    target = op.outputs[0].dtype
    if not isinstance(x, Parts):
        return Parts(tf.cast(x, target.real_dtype))
    if not target.is_complex:
        return tf.cast(x.real, target)
    return Parts(*(None if y is None else tf.cast(y, target.real_dtype) for y in x))


def _exponential(tf: Any, op: Any, x: Parts) -> Parts:
    size = tf.exp(x.real)
    if x.imag is None:
        return Parts(size)
    return Parts(size * tf.cos(x.imag), size * tf.sin(x.imag))


def _square(tf: Any, op: Any, x: Parts) -> Parts:
    if x.imag is None:
        return Parts(tf.square(x.real))
    return Parts((x.real - x.imag) * (x.real + x.imag), 2 * x.real * x.imag)


_FORMS: dict[str, Callable[..., Any]] = {
    "Angle": _angle,
    "Cast": _cast,
    "Complex": lambda tf, op, real, imag: Parts(real, imag),
    "ComplexAbs": _absolute,
    "Conj": _conjugate,
    "ConjugateTranspose": _conjugate_transpose,
    "Exp": _exponential,
    "Imag": lambda tf, op, x: _imag(tf, x),
    "Real": lambda tf, op, x: x.real,
    "RealDiv": _quotient,
    "Square": _square,
}
