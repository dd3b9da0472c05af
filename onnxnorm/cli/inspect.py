"""``onnxnorm inspect``: the normalization layers and nodes of an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxnorm.cli import layers, terminal

if TYPE_CHECKING:
    from onnxnorm.graph.inspection import Inspection, NodeRecord

_COLUMNS = ("node", "operator", "where", "input", "attributes", "form")


def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what became of each normalization layer, and the nodes of no known layer."""
    from onnxnorm.graph.inspection import inspect as inspect_file

    found = inspect_file(model)
    if as_json:
        terminal.show_json(found.to_dict())
        return
    if found.layers:
        layers.show(found.layers)
    if found.other_nodes:
        terminal.show_table(_COLUMNS, [_row(node) for node in found.other_nodes])
    for problem in found.problems:
        terminal.show(f"note: {problem}")
    for source in found.source:
        terminal.show(f"from {_source(source)}")
    terminal.show(f"{model}: {_summary(found)}")


def _summary(found: Inspection) -> str:
    if not found.layers and not found.nodes:
        return "no normalization nodes"
    custom = [node for node in found.nodes if node.form == "custom"]
    counts = f"{len(found.layers)} layer records, {len(found.nodes)} normalization nodes"
    if not custom:
        return counts
    if found.cpu:
        return f"{counts}, for {found.cpu} only"
    whole = all(node.has_function for node in custom)
    return f"{counts}, {'with function bodies' if whole else 'which need the onnxnorm library'}"


def _source(source: Mapping[str, str]) -> str:
    """The model's name, and the versions of the programs."""
    versions = [f"{name} {version}" for name, version in source.items() if name != "model"]
    return f"model {source.get('model', '')!r}: {', '.join(versions)}"


def _row(node: NodeRecord) -> tuple[str, ...]:
    return (
        node.name,
        f"{node.domain}.{node.operator}" if node.domain else node.operator,
        node.location,
        _input(node),
        ", ".join(f"{name}={value}" for name, value in node.attributes.items()),
        _form(node),
    )


def _input(node: NodeRecord) -> str:
    dtype = node.input_dtype or "?"
    return dtype if node.input_shape is None else f"{dtype} {layers.shape_text(node.input_shape)}"


def _form(node: NodeRecord) -> str:
    if node.form == "native":
        return "native"
    return "custom, function in the file" if node.has_function else "custom, needs the library"
