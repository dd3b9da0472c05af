"""Traces a Keras model; each known normalization layer leaves a marker instead of its operations.

The marker is a ``PyFunc`` operation whose token holds the layer's NormSpec. It survives freezing
and TensorFlow's graph optimizer, in Keras 2 and in Keras 3, also inside loop bodies and inlined
functions.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from onnxnorm import restored, signature, timesteps, unknown_layers
from onnxnorm.errors import ConversionError, MissingDependencyError
from onnxnorm.frameworks import KnownLayer, is_stand_in, recognize, stand_in
from onnxnorm.frameworks.measured import NoFormulaError
from onnxnorm.frameworks.references import referenced
from onnxnorm.spec import NormSpec

MARKER_OP = "PyFunc"
_TOKEN = "onnxnorm:"
_ABSENT = object()
_KERAS_ADDS = re.compile("Call arguments received|Arguments received by")
_BOLD = re.compile(r"\x1b\[\d*m")


@dataclass(frozen=True)
class Trace:
    """A model traced for inference, with markers for its normalization layers.

    Attributes:
        model: the Keras model.
        function: the ``tf.ConcreteFunction``; its graph holds the markers.
        input_names: names of the model's inputs, in the order of the function's inputs.
        output_names: the same for its outputs.
        layers: every layer of the model.
        known: the normalization layers among them.
    """

    model: Any
    function: Any
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    layers: Sequence[Any]
    known: tuple[KnownLayer, ...]


@dataclass(frozen=True)
class Marker:
    """What a marker's token says.

    Attributes:
        layer: position of the layer in the walk over the model, since names repeat.
        spec: what the layer computes.
    """

    layer: int
    spec: NormSpec

    def token(self) -> str:
        """The token, read back by `read_marker`."""
        return f"{_TOKEN}{self.layer}:{self.spec.to_json()}"


def read_marker(token: str) -> Marker | None:
    """The marker with this token; None for the token of any other ``PyFunc``."""
    if not token.startswith(_TOKEN):
        return None
    layer, _, spec = token[len(_TOKEN) :].partition(":")
    return Marker(int(layer), NormSpec.from_json(spec))


def trace(model: Any, input_signature: Any = None, marked: bool = True) -> Trace:
    """Traces ``model(inputs, training=False)``.

    Args:
        model: a Keras model.
        input_signature: ``tf.TensorSpec`` objects or arrays in the structure of the model's
            inputs; default: the inputs that the model was built for, with their unknown sizes.
        marked: leave markers; without them the trace is what Keras itself computes.

    Raises:
        ConversionError: the input signature is unknown or does not fit, or the model or one of
            its normalization layers cannot be traced.
    """
    tf = tensorflow()
    check_model(model)
    own = signature.of_model(tf, model, input_signature)
    names = _unique(signature.input_names(model, own), set())
    specs = [
        tf.TensorSpec(spec.shape, spec.dtype, name=name)
        for spec, name in zip(own.specs(tf), names, strict=True)
    ]
    training = {"training": False} if signature.takes_training(model) else {}

    def forward(*inputs: Any) -> list[Any]:
        args, kwargs = own.arguments(tf, inputs)
        outputs = model(*args, **kwargs, **training)
        output_names[:] = signature.output_names(model, outputs)
        flat = [output for output in tf.nest.flatten(outputs) if output is not None]
        kinds[:] = [type(output) for output in flat]
        return flat

    output_names: list[str] = []
    kinds: list[type] = []
    if not signature.is_built(model, layers(model)):
        with _as_conversion_error(model, specs, input_signature):
            signature.build(tf, model, own)
    everything = layers(model)
    with (
        replaced(timesteps.calls(tf, everything)),
        markers(everything) if marked else nullcontext(()) as known,
        _as_conversion_error(model, specs, input_signature),
    ):
        function = tf.function(forward, input_signature=specs).get_concrete_function()
        for name, kind in zip(output_names, kinds, strict=False):
            if issubclass(kind, (tf.RaggedTensor, tf.SparseTensor)):
                raise ConversionError(
                    f"model {model.name!r}: its output {name!r} is a {kind.__name__}; only dense "
                    "tensors have an ONNX form"
                )
        if known and any(map(restored.is_restored, everything)):
            function = restored.with_markers(tf, function, _marks(known))
            _check_all_marked(function, known)
    outputs = tuple(_unique(output_names, set(names)))
    return Trace(model, function, tuple(names), outputs, everything, known)


@contextmanager
def _as_conversion_error(model: Any, specs: Sequence[Any], given: Any) -> Iterator[None]:
    try:
        yield
    except ConversionError:
        raise
    except Exception as error:
        shapes = [(None if s.shape.rank is None else list(s.shape), s.dtype.name) for s in specs]
        at = "" if given is None else " of the argument input_signature"
        raise ConversionError(
            f"model {model.name!r} cannot be traced for inputs {shapes}{at}: {_brief(error, model)}"
        ) from error


@contextmanager
def markers(layers: Iterable[Any]) -> Iterator[tuple[KnownLayer, ...]]:
    """While it is open, each call of a known normalization layer among these leaves a marker.

    Only these layer objects are touched, and they are put back as they were.

    Raises:
        ConversionError: a layer has a quantized dtype policy, or cannot be called as it is.
    """
    layers = list(layers)
    for layer in layers:
        _check_policy(layer)
    known = tuple(layer for layer in map(recognize, layers) if layer is not None)
    changed = [(index, layer) for index, layer in enumerate(known) if not layer.overridden]
    for layer in known:
        if layer.overridden and not layer.folded:
            changes = f"{type(layer.layer).__qualname__} overrides {', '.join(layer.overridden)}"
            _warn_of_decomposition(layer.layer, changes)
    unknown = _unknown(layers)
    calls = [(k.layer, "call", _call_while_traced(index, k)) for index, k in changed]
    calls += [(k.layer, "call", _call_measured(len(known) + i, k)) for i, k in enumerate(unknown)]
    known += tuple(unknown)
    with replaced(calls):
        try:
            yield known
        except ConversionError as error:
            raise _as_first_raised(error) from None


def _as_first_raised(error: ConversionError) -> ConversionError:
    """The error whose message Keras and autograph, raising it again, put among lines of code."""
    first, context = error, error.__context__
    while context is not None:
        if isinstance(context, ConversionError):
            first = context
        context = context.__context__
    return first


@contextmanager
def unmarked(model: Any) -> Iterator[None]:
    """While it is open, the layers of ``model`` compute, in the midst of `markers` too."""
    changed = [layer for layer in layers(model) if is_stand_in(vars(layer).get("call"))]
    own_calls = ((layer, "call", partial(type(layer).call, layer)) for layer in changed)
    with replaced((layer, name, stand_in(call)) for layer, name, call in own_calls):
        yield


@contextmanager
def replaced(attributes: Iterable[tuple[Any, str, Any]]) -> Iterator[None]:
    """While it is open, objects have other attributes: (object, name, value)."""
    attributes = tuple(attributes)
    before = [vars(holder).get(name, _ABSENT) for holder, name, _ in attributes]
    try:
        for holder, name, value in attributes:
            # Past Keras' own attribute tracking, in which a changed method has no place.
            object.__setattr__(holder, name, value)
        yield
    finally:
        for (holder, name, _), value in reversed(list(zip(attributes, before, strict=True))):
            if value is not _ABSENT:
                object.__setattr__(holder, name, value)
            else:
                vars(holder).pop(name, None)


def _check_policy(layer: Any) -> None:
    policy: Any = getattr(layer, "dtype_policy", None)
    if getattr(policy, "quantization_mode", None):
        raise ConversionError(
            f"layer {layer.name!r}: its dtype policy {policy.name!r} is quantized, which has no "
            "ONNX form here; convert the model before it is quantized, with policies such as "
            "float32, float16, bfloat16, float64, mixed_float16 or mixed_bfloat16"
        )


def _call_while_traced(index: int, known: KnownLayer) -> Callable[..., Any]:
    tf = tensorflow()
    layer = known.layer
    own_call = partial(type(layer).call, layer)
    parameters = inspect.signature(own_call)

    def call(*args: Any, **kwargs: Any) -> Any:
        given = parameters.bind(*args, **kwargs).arguments
        in_training = _is_true(given.get("training")) and layer.trainable
        if known.weight is not None or (known.folded and not in_training):
            known.notes.append(known.folded)
        if known.weight is not None:
            with tf.init_scope():  # out of the trace, where the variables have values
                weight = known.weight(layer)
            with replaced([(weight.holder, weight.attribute, tf.constant(weight.value))]):
                return layer.layer(*args, **kwargs)
        if known.folded and not in_training:
            with _own_scope(tf, layer.name) as scope:
                known.scopes.append(scope)
                return own_call(*args, **kwargs)
        if known.formula is None:
            raise ConversionError(
                f"layer {layer.name!r}: called with training=True it changes its weights in every "
                "call, which has no ONNX form; call it without"
            )
        inputs = next(iter(given.values()))
        others = [k for k, v in [*given.items()][1:] if v is not None and k != "training"]
        if tf.nest.is_nested(inputs):
            others.append("several inputs")
        if isinstance(inputs, (tf.RaggedTensor, tf.SparseTensor)):
            raise ConversionError(
                f"layer {layer.name!r}: input is a {type(inputs).__name__}; only dense tensors "
                "have an ONNX form"
            )
        if others and known.folded:
            raise ConversionError(
                f"layer {layer.name!r}: called with training=True and {', '.join(others)}; only "
                "its input alone has an ONNX form then"
            )
        if others:
            reason = f"called with {', '.join(others)}, on which its formula does not depend"
            _warn_of_decomposition(layer, reason)
            known.notes.append(reason)
            return own_call(*args, **kwargs)
        x = tf.convert_to_tensor(inputs)
        if x.dtype == layer.compute_dtype:
            return _leave_marker(index, known, x)
        if not hasattr(layer, "autocast"):
            # Keras 2: such a layer takes its input in its own dtype, or not at all.
            return _leave_marker(index, known, tf.cast(x, layer.compute_dtype))
        if not x.dtype.is_floating:
            raise ConversionError(
                f"layer {layer.name!r}: its input is {x.dtype.name}, to which Keras 3 cuts the "
                f"normalized values again; cast it to {layer.compute_dtype} before the layer"
            )
        return tf.cast(_leave_marker(index, known, x), _own_result_dtype(layer, x))

    not_converted: Callable[..., Any] = tf.autograph.experimental.do_not_convert(call)
    return stand_in(not_converted)


def _own_scope(tf: Any, name: str) -> Any:
    """A name scope for the operations of one call of a layer; Keras does not open one always.

    Yields the scope's name. TimeDistributed, for one, calls ``call`` and not the layer.
    """
    current = (
        tf.compat.v1.get_default_graph().get_name_scope() if not tf.executing_eagerly() else ""
    )
    if re.sub(r"_\d+$", "", current.rpartition("/")[2]) in (name, re.sub(r"_\d+$", "", name)):
        return nullcontext(f"{current}/")
    return tf.name_scope(re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip("_-") or "layer")


def _unknown(layers: Sequence[Any]) -> list[KnownLayer]:
    """Those of the layers whose calls are examined, as their class says nothing."""
    tf = tensorflow()
    return [
        KnownLayer(layer, (), measured=True)
        for layer in layers
        if unknown_layers.may_normalize(tf, layer) and len(_tracked(layer)) == 1
    ]


def _call_measured(index: int, known: KnownLayer) -> Callable[..., Any]:
    """Stands in for the call of a layer of an unknown class."""
    own_call = known.layer.call
    mark = tensorflow().autograph.experimental.do_not_convert(partial(_measured, index, known))

    # Autograph converts the layer's own call inside this one, as it does without it.
    def call(*args: Any, **kwargs: Any) -> Any:
        marked = mark(own_call, args, kwargs)
        return own_call(*args, **kwargs) if marked is None else marked

    return stand_in(call)


def _measured(
    index: int,
    known: KnownLayer,
    own_call: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any | None:
    """The marked result of a call, None where the call is no formula of its one input."""
    tf = tensorflow()
    bound = inspect.signature(own_call).bind(*args, **kwargs)
    given = dict(bound.arguments)
    for parameter in bound.signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            given |= given.pop(parameter.name, {})
    x, *others = [value for name, value in given.items() if name != "training"] or [None]
    training = {"training": given["training"]} if "training" in given else {}
    inference = all(value is None or value is False for value in training.values())
    if any(value is not None for value in others) or not inference:
        known.notes.append("it is called with more than its input")
        return None
    dense = tf.is_tensor(x) and not isinstance(x, (tf.RaggedTensor, tf.SparseTensor))
    if not dense or not x.dtype.is_floating or x.shape.rank is None:
        return None
    try:
        found = unknown_layers.formula(tf, known.layer, own_call, x, training)
    except NoFormulaError as reason:
        known.notes.append(str(reason))
        return None
    if found is None:
        return None
    formula, dtype = found
    wide = max(x.dtype, dtype, key=lambda kind: kind.size)
    fixed = replace(known, formula=lambda layer, shape: formula)
    return tf.cast(_leave_marker(index, fixed, tf.cast(x, wide)), dtype)


def _warn_of_decomposition(layer: Any, reason: str) -> None:
    warnings.warn(
        f"layer {layer.name!r}: {reason}, so it is converted as the operations it runs, not as one "
        "node",
        stacklevel=4,
    )


def _is_true(training: Any) -> bool:
    """Whether a call asks for training; what only the running graph knows does not."""
    return isinstance(training, (bool, int)) and bool(training)


def _own_result_dtype(layer: Any, x: Any) -> Any:
    """The dtype of the layer's own result; Keras 3 spares some of them the cast of their input."""
    tf = tensorflow()
    own = tf.function(lambda value: type(layer).call(layer, value), autograph=False)
    return own.get_concrete_function(tf.TensorSpec(x.shape, x.dtype)).output_dtypes


def _leave_marker(index: int, known: KnownLayer, x: Any) -> Any:
    tf = tensorflow()
    if x.shape.rank is None:
        raise ConversionError(
            f"layer {known.layer.name!r}: the rank of its input is unknown; give the model an "
            "input signature"
        )
    with tf.init_scope():  # as above
        formula = known.fitted(tuple(x.shape.as_list()))
    spec = replace(formula.spec, compute_dtype=x.dtype.name)
    parameters = [tf.cast(tf.constant(v), x.dtype) for v in (formula.scale, formula.bias)]
    (y,) = tf.raw_ops.PyFunc(
        input=[x, *parameters], token=Marker(index, spec).token(), Tout=[x.dtype]
    )
    # The shape of a PyFunc's output is lost when the frozen graph is read back, and all that
    # tf2onnx knows of the operations behind it with it.
    return tf.ensure_shape(y, x.shape)


def _check_all_marked(function: Any, known: Sequence[KnownLayer]) -> None:
    """A layer of a restored model without a marker is inside a function that it is no part of."""
    graph_def = function.graph.as_graph_def()
    nodes = [*graph_def.node, *(n for f in graph_def.library.function for n in f.node_def)]
    found = {
        marker.layer
        for node in nodes
        if node.op == MARKER_OP and (marker := read_marker(node.attr["token"].s.decode()))
    }
    for index, layer in enumerate(known):
        if index in found or layer.notes or layer.overridden or not layer.layer.built:
            continue
        if layer.measured:
            continue
        if layer.folded and layer.weight is None:
            layer.notes.append(layer.folded)
        else:
            raise ConversionError(
                f"layer {layer.layer.name!r}: it is part of a model or custom layer that Keras "
                "restored from a SavedModel without its class, as one function; import the module "
                "that registers the class, convert the model object, or save it as .keras"
            )


def _marks(known: Sequence[KnownLayer]) -> dict[str, list[restored.Mark]]:
    marks: dict[str, list[restored.Mark]] = {}
    for index, layer in enumerate(known):
        if not (layer.overridden or layer.folded or layer.measured):
            mark = partial(_leave_marker, index, layer)
            marks.setdefault(layer.layer.name, []).append(mark)
    return marks


def layers(model: Any) -> Sequence[Any]:
    """Every layer object that the model may run, each once.

    Those below the model, wrapped and copied ones included, and those that its layers' own code
    refers to.
    """
    layer_class = tensorflow().keras.layers.Layer
    found: dict[int, Any] = {}
    waiting = [model]
    while waiting:
        layer = waiting.pop(0)
        new = [] if id(layer) in found else [own for own in _tracked(layer) if id(own) not in found]
        for own in new:
            found[id(own)] = own
            waiting += referenced(own, layer_class)
    templates = {id(layer) for own in found.values() for layer in _template(own)}
    return [layer for layer in found.values() if id(layer) not in templates or layer.built]


def _template(layer: Any) -> Sequence[Any]:
    """What a Bidirectional of Keras 2 was given and runs copies of."""
    if not hasattr(layer, "forward_layer") or not hasattr(layer, "layer"):
        return ()
    return _tracked(layer.layer)


def _tracked(layer: Any) -> Sequence[Any]:
    try:
        return [layer, *layer.submodules]
    except (AttributeError, ValueError):
        # Keras 3 has no such walk, and that of Keras 2 ends in the caches of recurrent dropout.
        return list(layer._flatten_layers())


def _unique(names: Sequence[str], taken: set[str]) -> list[str]:
    """The names in order, those that are taken with a number: an input may also be an output."""
    result: list[str] = []
    for name in names:
        candidate, count = name, 0
        while candidate in taken or candidate in result:
            count += 1
            candidate = f"{name}_{count}"
        result.append(candidate)
    return result


def _brief(error: Exception, model: Any) -> str:
    """The layer that an error of Keras comes from, and the error's own last words."""
    text = _BOLD.sub("", str(error))
    named = re.findall(r"calling layer ['\"](.+?)['\"] \(type", text)
    # Keras 3 tells the class only.
    classes = re.findall(r"Exception encountered when calling (\w+)\.call\(\)", text)
    if classes and not named:
        named = [layer.name for layer in layers(model) if type(layer).__name__ == classes[-1]]
    text, *_ = _KERAS_ADDS.split(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    at = f"layer {' or '.join(map(repr, named))}: " if named else ""
    return f"{at}{type(error).__name__}: {' '.join(lines[-2:])}"


def tensorflow() -> Any:
    """The ``tensorflow`` module, with a Keras that runs on it.

    Raises:
        MissingDependencyError: TensorFlow is not installed, or its Keras cannot be used.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise MissingDependencyError(
            f"TensorFlow cannot be imported ({error}): install 'onnxnorm[tfa]' for Keras 2 and "
            "Addons models, 'onnxnorm[keras]' for Keras 3 models"
        ) from error
    try:
        package = sys.modules[tf.keras.Model.__module__.partition(".")[0]]
    except (ImportError, RecursionError) as error:
        # Without tf_keras, TensorFlow asks itself for it again and again.
        raise MissingDependencyError(
            "TensorFlow's Keras cannot be imported: with TF_USE_LEGACY_KERAS=1 it is the package "
            "tf_keras; install that, or unset the variable"
        ) from error
    backend = package.backend.backend() if hasattr(package.backend, "backend") else "tensorflow"
    if backend != "tensorflow":
        raise MissingDependencyError(
            f"Keras runs on {backend!r}, and conversion traces TensorFlow operations: save the "
            "model, set KERAS_BACKEND=tensorflow, and load it in a new process"
        )
    return tf


def check_model(model: Any) -> None:
    """Refuses what is no model of either Keras.

    Raises:
        ConversionError: it is something else.
    """
    bases = {(base.__module__.partition(".")[0], base.__name__) for base in type(model).__mro__}
    if not bases & {("keras", "Model"), ("tf_keras", "Model")}:
        raise ConversionError(
            f"{type(model).__module__}.{type(model).__qualname__} is no Keras model; expected a "
            "model or the path of one, and of a layer a model with it"
        )
