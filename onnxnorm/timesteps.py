"""What a TimeDistributed of Keras 3 computes of sequences whose length is not known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any


def calls(tf: Any, layers: Iterable[Any]) -> Iterator[tuple[Any, str, Any]]:
    """Stand-ins for the calls of these layers, as `capture.replaced` takes them.

    Keras 3 takes the batch's size for an unknown number of steps, which ``predict`` never shows
    since there it is known: a trace for any length would hold for squares only.
    """
    own_call = tf.keras.layers.TimeDistributed.call
    for layer in layers:
        # Keras 2, without autocast, joins the steps with the batch itself.
        if getattr(type(layer), "call", None) is own_call and hasattr(layer, "autocast"):
            yield layer, "call", _call(tf, layer)


def _call(tf: Any, layer: Any) -> Callable[..., Any]:
    own_call = layer.call

    def call(inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if inputs.shape[1] is not None:
            return own_call(inputs, training=training, mask=mask)
        kwargs = {}
        if mask is not None and layer.layer._call_has_mask_arg:
            kwargs["mask"] = tf.reshape(mask, [-1, *_sizes(tf, mask)[2:]])
        if layer.layer._call_has_training_arg:
            kwargs["training"] = training
        sizes = _sizes(tf, inputs)
        outputs = layer.layer.call(tf.reshape(inputs, [-1, *sizes[2:]]), **kwargs)
        return tf.reshape(outputs, [*sizes[:2], *_sizes(tf, outputs)[1:]])

    do_not_convert: Callable[..., Any] = tf.autograph.experimental.do_not_convert(call)
    return do_not_convert


def _sizes(tf: Any, tensor: Any) -> list[Any]:
    """A tensor's sizes, as numbers where they are known."""
    sizes = tf.shape(tensor)
    return [sizes[axis] if size is None else size for axis, size in enumerate(tensor.shape)]
