"""tf2onnx' and Keras' own exporters, made to keep each normalization layer one node."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from onnxnorm import capture, timesteps
from onnxnorm.conversion import ONE_AT_A_TIME, Hook, convert, import_tf2onnx
from onnxnorm.errors import ConversionError


@contextmanager
def hooks(model: Any) -> Iterator[dict[str, Any]]:
    """While it is open, exporters that others wrote keep each layer of the model one node.

    ``tf2onnx.convert.from_keras`` is given the keyword arguments, with ``opset=15`` or higher::

        with onnxnorm.hooks(model) as kwargs:
            proto, _ = tf2onnx.convert.from_keras(model, opset=18, **kwargs)

    Keras 3's own export to ONNX becomes `convert` for this model object::

        with onnxnorm.hooks(model):
            model.export("model.onnx", format="onnx")

    The model and its layers are changed while it is open, and other threads' conversions wait.

    Raises:
        ConversionError: ``model`` is no Keras model.
        MissingDependencyError: TensorFlow or tf2onnx is not installed.
    """
    import_tf2onnx()
    capture.check_model(model)
    layers = capture.layers(model)
    steps = timesteps.calls(capture.tensorflow(), layers)
    with (
        ONE_AT_A_TIME,
        _stand_ins(model),
        capture.replaced(steps),
        capture.markers(layers) as known,
    ):
        yield Hook(known, layers).arguments()


@contextmanager
def _stand_ins(model: Any) -> Iterator[None]:
    """Attributes of the model object alone, which are gone afterwards."""
    attributes: dict[str, Any] = {}
    if "format" in inspect.signature(model.export).parameters:
        attributes["export"] = _exporter(model)
    if not (hasattr(model, "output_names") and hasattr(model, "_get_save_spec")):
        # Keras 3's Sequential, and all models before Keras 3.5: tf2onnx looks for their outputs by
        # names that the trace does not have. Without names it numbers them.
        attributes["output_names"] = None
    with capture.replaced([(model, name, value) for name, value in attributes.items()]):
        yield


def _exporter(model: Any) -> Callable[..., None]:
    """A stand-in for ``model.export``, with its arguments."""
    keras_export = model.export

    def export(
        filepath: str | os.PathLike[str],
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> None:
        if format != "onnx":
            given = {"verbose": verbose, "input_signature": input_signature}
            kwargs |= {name: value for name, value in given.items() if value is not None}
            with capture.unmarked(model):
                keras_export(filepath, format=format, **kwargs)
            return
        opset = kwargs.pop("opset_version", None)
        if kwargs:
            raise ConversionError(
                f"export to ONNX of model {model.name!r}: argument {', '.join(kwargs)}; verbose, "
                "input_signature and opset_version are known"
            )
        convert(model, opset=opset or 18, input_signature=input_signature).save(filepath)
        if verbose is not False:
            print(f"Saved artifact at '{filepath}'.")

    return export
