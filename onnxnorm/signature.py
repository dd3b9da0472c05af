"""What a Keras model takes and returns: the specs and names of its inputs and outputs."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from onnxnorm import arguments
from onnxnorm.errors import ConversionError

# Arguments of a call that say how to compute, not on what.
_SWITCHES = frozenset({"training", "mask"})


@dataclass(frozen=True)
class Signature:
    """Arguments of a model's call, with ``tf.TensorSpec`` objects in the place of tensors."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def arguments(self, tf: Any, tensors: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments with tensors in the place of the specs."""
        args, kwargs = tf.nest.pack_sequence_as((self.args, dict(self.kwargs)), list(tensors))
        return tuple(args), kwargs

    def specs(self, tf: Any) -> list[Any]:
        """The specs in the order of the tensors that `arguments` takes."""
        flat: list[Any] = tf.nest.flatten((self.args, dict(self.kwargs)))
        return flat


def of_model(tf: Any, model: Any, given: Any = None) -> Signature:
    """The signature of the model's call.

    Args:
        tf: the ``tensorflow`` module.
        model: a Keras model.
        given: specs, tensors or arrays in the structure of the model's inputs, or a dictionary by
            the names of its inputs or of its call's arguments; default: what the model was built
            for or called on, with unknown sizes where Keras has them.

    Raises:
        ConversionError: the model was never called, Keras does not remember all of its arguments,
            ``given`` does not fit, or an input is not a dense tensor.
    """
    if given is None:
        own = _own(tf, model)
        if own is None:
            raise ConversionError(
                f"model {model.name!r} does not know its inputs, since it was never called on "
                "data, nor built with shapes that Keras keeps: call it once, or pass "
                "input_signature"
            )
        missing = [name for name in _required(model)[len(own.args) :] if name not in own.kwargs]
        if missing:
            raise ConversionError(
                f"model {model.name!r}: Keras does not remember its argument"
                f"{'s' if len(missing) > 1 else ''} {', '.join(missing)}; pass input_signature, a "
                "dictionary from the names of the arguments to their specs"
            )
        signature = own
    else:
        signature = _fitted(tf, model, _as_specs(tf, model, given))
    for spec, name in zip(signature.specs(tf), input_names(model, signature), strict=True):
        if not isinstance(spec, tf.TensorSpec):
            raise ConversionError(
                f"model {model.name!r}: input {name!r} is no dense tensor ({type(spec).__name__}); "
                "only dense tensors have an ONNX form"
            )
    return signature


def is_built(model: Any, layers: Iterable[Any]) -> bool:
    """Whether a model and its ``layers`` have their weights.

    Keras 3 takes a subclassed model for built once its ``build`` has run, in which the layers
    inside get no weights unless the model's own ``build`` makes them.
    """
    if not model.built or getattr(model, "_called", True):
        return bool(model.built)
    return all(layer.built for layer in layers)


def build(tf: Any, model: Any, signature: Signature) -> None:
    """Makes the weights of a model that was never called."""
    symbolic = [
        tf.keras.Input(batch_shape=spec.shape, dtype=spec.dtype) for spec in signature.specs(tf)
    ]
    args, kwargs = signature.arguments(tf, symbolic)
    model(*args, **kwargs)


def input_names(model: Any, signature: Signature) -> list[str]:
    """Names for the tensors of the signature: the model's own, keys, or numbered ones."""
    arguments: list[tuple[int | str, Any]] = [*enumerate(signature.args)]
    arguments += signature.kwargs.items()
    flat = [
        (argument, path, spec)
        for argument, structure in arguments
        for path, spec in _flat_with_paths(structure)
    ]
    own = getattr(model, "input_names", None)
    if own and len(own) == len(flat):
        return list(own)
    parameters: dict[int | str, str] = dict(enumerate(inspect.signature(model.call).parameters))
    names = []
    for index, (argument, path, spec) in enumerate(flat):
        keys = [str(key) for key in path if isinstance(key, str)]
        if len(arguments) > 1:
            keys.insert(0, str(parameters.get(argument, argument)))
        names.append(getattr(spec, "name", None) or "/".join(keys) or f"input_{index + 1}")
    return names


def output_names(model: Any, outputs: Any) -> list[str]:
    """Names for the tensors that the model returns: keys of a dictionary, or the model's own."""
    paths = [path for path, output in _flat_with_paths(outputs) if output is not None]
    if isinstance(outputs, Mapping):
        return ["/".join(map(str, path)) for path in paths]
    names = getattr(model, "output_names", None)
    if names and len(names) == len(paths):
        return list(names)
    return [f"output_{i + 1}" for i in range(len(paths))]


def takes_training(model: Any) -> bool:
    """Whether the model's call tells training from inference."""
    if getattr(model, "_call_has_training_arg", False):
        return True
    parameters = inspect.signature(model.call).parameters.values()
    return any(p.name == "training" or p.kind is p.VAR_KEYWORD for p in parameters)


def _own(tf: Any, model: Any) -> Signature | None:
    """What Keras remembers of the model's inputs; None for a model that was never called."""
    flat = list(_inputs(model))
    if flat:
        # Functional models keep the structure: Keras 2 and Keras 3 under names of their own.
        own = (getattr(model, name, None) for name in ("_nested_inputs", "_inputs_struct"))
        structure = next((s for s in own if s is not None), flat if len(flat) > 1 else flat[0])
        # A Sequential without an Input of its own was built for the batch that came first.
        any_batch = any(base.__name__ == "Sequential" for base in type(model).__mro__)
        any_batch &= not getattr(model, "_has_explicit_input_shape", False)
        return Signature((tf.nest.map_structure(lambda t: _spec(tf, t, any_batch), structure),), {})
    if hasattr(model, "save_spec"):  # Keras 2
        if model.save_spec() is None:
            shapes = getattr(model, "_build_input_shape", None)
            if not _are_shapes(shapes):
                return None
            # Keras 2 builds a model by calling it on placeholders of this dtype.
            return Signature((_from_shapes(tf, shapes, tf.keras.backend.floatx()),), {})
        args, kwargs = tf.nest.map_structure(_without_name, model.save_spec())
        last = max((i for i, arg in enumerate(args) if _has_tensors(tf, arg)), default=-1)
        return Signature(
            tuple(args[: last + 1]), {k: v for k, v in kwargs.items() if _has_tensors(tf, v)}
        )
    # The arguments of the model's build, some of which may be no shapes.
    specs = {
        name.removesuffix("_shape"): _from_shapes(tf, shapes, model.input_dtype)
        for name, shapes in (getattr(model, "_build_shapes_dict", None) or {}).items()
        if _are_shapes(shapes)
    }
    if not specs:
        return None
    return Signature(tuple(specs.values()), {}) if len(specs) == 1 else Signature((), specs)


def _inputs(model: Any) -> Iterable[Any]:
    try:
        return getattr(model, "inputs", None) or ()
    except ValueError:  # a Sequential of an early Keras 3 that was never called
        return ()


def _fitted(tf: Any, model: Any, given: Any) -> Signature:
    """Given specs in the structure of the model's call."""
    own = _own(tf, model)
    while isinstance(given, (list, tuple)) and len(given) == 1:
        (given,) = given
    if own is None or len(own.args) + len(own.kwargs) < len(_required(model)):
        return _unremembered(model, given)
    names, wanted = input_names(model, own), own.specs(tf)
    flat = tf.nest.flatten(given)
    if isinstance(given, Mapping) and not _same_dictionary(tf, own, given):
        if given.keys() == set(names):
            flat = [given[name] for name in names]
        else:
            raise ConversionError(
                f"model {model.name!r} takes {', '.join(names)}; input_signature has "
                f"{', '.join(map(str, given))}"
            )
    if len(flat) != len(wanted):
        raise ConversionError(
            f"model {model.name!r} takes {len(wanted)} inputs, input_signature has {len(flat)}"
        )
    named = [
        tf.TensorSpec(spec.shape, spec.dtype, name=spec.name or name)
        if isinstance(spec, tf.TensorSpec)
        else spec
        for spec, name in zip(flat, names, strict=True)
    ]
    return Signature(*own.arguments(tf, named))


def _unremembered(model: Any, given: Any) -> Signature:
    """The arguments of a call of which Keras knows less than is given."""
    required = _required(model)
    parameters = inspect.signature(model.call).parameters
    if isinstance(given, Mapping) and (len(required) > 1 or required == list(given)):
        unknown = [name for name in given if name not in parameters]
        missing = [name for name in required if name not in given]
        if unknown or missing:
            raise ConversionError(
                f"model {model.name!r} takes {', '.join(required)}; input_signature has "
                f"{', '.join(map(str, given))}"
            )
        return Signature((), dict(given))
    if isinstance(given, (list, tuple)) and len(required) > 1:
        return Signature(tuple(given), {})
    return Signature((given,), {})


def _required(model: Any) -> list[str]:
    """Names of the arguments without which the model cannot be called."""
    return [
        p.name
        for p in inspect.signature(model.call).parameters.values()
        if p.default is p.empty
        and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        and p.name not in _SWITCHES
    ]


def _same_dictionary(tf: Any, own: Signature, given: Mapping[Any, Any]) -> bool:
    if own.kwargs or len(own.args) != 1 or not isinstance(own.args[0], Mapping):
        return False
    try:
        tf.nest.assert_same_structure(own.args[0], given, check_types=False)
    except (TypeError, ValueError):
        return False
    return True


def _as_specs(tf: Any, model: Any, given: Any) -> Any:
    def spec(leaf: Any) -> Any:
        if isinstance(leaf, tf.TypeSpec):
            return leaf
        if isinstance(leaf, (tf.RaggedTensor, tf.SparseTensor)):
            return tf.type_spec_from_value(leaf)
        if getattr(leaf, "shape", None) is None or getattr(leaf, "dtype", None) is None:
            raise ConversionError(
                f"model {model.name!r}: input_signature has {arguments.shown(leaf)} where a "
                "tf.TensorSpec, a tensor or an array with shape and dtype is expected"
            )
        try:
            return tf.TensorSpec(leaf.shape, leaf.dtype, name=_name(leaf))
        except Exception as error:
            raise ConversionError(
                f"model {model.name!r}: input_signature has {arguments.shown(leaf)} of a shape or "
                "dtype that no tensor has"
            ) from error

    try:
        return tf.nest.map_structure(spec, given)
    except (TypeError, ValueError) as error:  # such as keys that cannot be put in order
        raise ConversionError(
            f"model {model.name!r}: input_signature has a structure that no inputs have: {error}"
        ) from error


def _name(leaf: Any) -> str | None:
    # An eager tensor raises when it is asked.
    name = None if hasattr(leaf, "numpy") else getattr(leaf, "name", None)
    return name if isinstance(name, str) else None


def _spec(tf: Any, tensor: Any, any_batch: bool) -> Any:
    """The spec of a symbolic tensor of either Keras."""
    if getattr(tensor, "sparse", False):
        return tf.SparseTensorSpec(tensor.shape, tensor.dtype)
    if getattr(tensor, "ragged", False):
        return tf.RaggedTensorSpec(tensor.shape, tensor.dtype)
    kind = getattr(tensor, "type_spec", None)
    if kind is not None and not isinstance(kind, tf.TensorSpec):
        return kind
    shape = (None, *tensor.shape[1:]) if any_batch else tensor.shape
    return tf.TensorSpec(shape, tensor.dtype, name=tensor.name)


def _without_name(spec: Any) -> Any:
    """Keras 2 makes names up for the inputs of a subclassed model."""
    return type(spec)(spec.shape, spec.dtype) if getattr(spec, "name", None) else spec


def _are_shapes(value: Any) -> bool:
    """Whether a value is a shape, or lists and dictionaries of shapes."""
    if isinstance(value, Mapping):
        return bool(value) and all(map(_are_shapes, value.values()))
    return _is_shape(value) or (_is_sequence(value) and all(map(_are_shapes, value)))


def _is_shape(value: Any) -> bool:
    return _is_sequence(value) and all(
        size is None or (isinstance(size, Integral) and not isinstance(size, bool))
        for size in value
    )


def _is_sequence(value: Any) -> bool:
    # A tf.TensorShape of unknown rank has no sizes to go through.
    return isinstance(value, (list, tuple)) or getattr(value, "rank", None) is not None


def _from_shapes(tf: Any, shapes: Any, dtype: Any) -> Any:
    """Specs for the shapes that Keras keeps of a model's call or build; it keeps no dtypes."""
    if isinstance(shapes, Mapping):
        return {key: _from_shapes(tf, value, dtype) for key, value in shapes.items()}
    if _is_shape(shapes):
        return tf.TensorSpec((None, *shapes[1:]) if shapes else (), dtype)
    return type(shapes)(_from_shapes(tf, value, dtype) for value in shapes)


def _has_tensors(tf: Any, structure: Any) -> bool:
    return any(isinstance(leaf, tf.TypeSpec) for leaf in tf.nest.flatten(structure))


def _flat_with_paths(structure: Any) -> list[tuple[tuple[Any, ...], Any]]:
    """Leaves with the indices and keys that lead to them, in the order of ``tf.nest.flatten``."""
    children: Iterable[tuple[Any, Any]]
    if isinstance(structure, Mapping):
        children = sorted(structure.items())
    elif isinstance(structure, (list, tuple)):
        children = enumerate(structure)
    else:
        return [((), structure)]
    return [
        ((key, *path), leaf) for key, inner in children for path, leaf in _flat_with_paths(inner)
    ]
