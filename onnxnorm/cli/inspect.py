"""``onnxnorm inspect``: the normalization nodes of an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxnorm.cli import terminal

if TYPE_CHECKING:
    from onnxnorm.graph.inspection import NodeRecord


def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the normalization nodes of an ONNX file, one row for each."""
    from onnxnorm.graph.inspection import inspect as inspect_file

    records = inspect_file(model)
    if as_json:
        terminal.show_json({"nodes": [record.to_dict() for record in records]})
    elif records:
        columns = ("node", "operator", "where", "input", "attributes", "form")
        terminal.show_table(columns, [_row(record) for record in records])
    else:
        terminal.show(f"{model}: no normalization nodes")


def _row(record: NodeRecord) -> tuple[str, ...]:
    return (
        record.name,
        f"{record.domain}.{record.operator}" if record.domain else record.operator,
        record.location,
        _input(record),
        ", ".join(f"{name}={value}" for name, value in record.attributes.items()),
        _form(record),
    )


def _input(record: NodeRecord) -> str:
    if record.input_shape is None:
        return record.input_dtype or "?"
    dimensions = ("?" if d is None else str(d) for d in record.input_shape)
    return f"{record.input_dtype or '?'} ({', '.join(dimensions)})"


def _form(record: NodeRecord) -> str:
    if record.form == "native":
        return "native"
    return "custom, function in the file" if record.has_function else "custom, needs the library"
