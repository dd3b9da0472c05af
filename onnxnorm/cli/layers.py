"""The table of layer records, which ``convert`` and ``inspect`` print."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from onnxnorm.cli import terminal

if TYPE_CHECKING:
    from onnxnorm.graph.records import Dimension, LayerRecord
    from onnxnorm.spec import NormSpec

COLUMNS = ("layer", "class", "input", "spec", "becomes")
# Told in columns of their own.
_ELSEWHERE = frozenset({"operator", "layer_name", "layer_class", "compute_dtype"})


def show(layers: Iterable[LayerRecord]) -> None:
    """Prints one row for each layer."""
    terminal.show_table(COLUMNS, [_row(layer) for layer in layers])


def shape_text(shape: Iterable[Dimension]) -> str:
    """The shape with question marks for unknown sizes."""
    return f"({','.join('?' if size is None else str(size) for size in shape)})"


def _row(layer: LayerRecord) -> tuple[terminal.Cell, ...]:
    class_name = layer.layer_class.rpartition(".")[2]
    shapes = dict.fromkeys(map(shape_text, layer.input_shapes))
    dtype = [layer.spec.compute_dtype] if layer.spec else []
    return (
        layer.name,
        class_name,
        " ".join([*dtype, *shapes]),
        _spec(layer.spec, class_name) if layer.spec else "",
        tuple(_becomes(layer)),
    )


def _spec(spec: NormSpec, class_name: str) -> str:
    """The operator if it has not the class' name, and the attributes that have no default value."""
    operator = "" if spec.operator == class_name else f"{spec.operator} "
    stated = {f.name: (getattr(spec, f.name), f.default) for f in fields(spec)}
    return operator + ", ".join(
        f"{name}={_plain(value)}"
        for name, (value, default) in stated.items()
        if name not in _ELSEWHERE and value != default
    )


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _becomes(layer: LayerRecord) -> Iterable[str]:
    count = len(layer.nodes)
    yield layer.lowering + (
        f": {layer.reason}" if layer.reason else f", {count} node{'s' if count != 1 else ''}"
    )
    yield from (f"+ {what}" for what in layer.fused)
    yield from (f"not fused: {what}" for what in layer.not_fused)
