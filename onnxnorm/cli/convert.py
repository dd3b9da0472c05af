"""``onnxnorm convert``: a Keras model file becomes an ONNX file."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from onnxnorm.cli import layers, terminal
from onnxnorm.cli.parameters import KerasModel, SafeMode


class LoweringChoice(str, Enum):
    """What a normalization layer becomes."""

    custom = "custom"
    native = "native"


def convert(
    model: KerasModel,
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    lowering: Annotated[
        LoweringChoice,
        typer.Option(
            help="custom: one onnxnorm node per layer, with its function body in the file. "
            "native: standard operators only."
        ),
    ] = LoweringChoice.custom,
    opset: Annotated[int, typer.Option(help="Version of the standard ONNX operators.")] = 18,
    report: Annotated[
        Path | None, typer.Option(help="Write what became of each layer to this JSON file.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what became of each layer as JSON.")
    ] = False,
    safe_mode: SafeMode = True,
) -> None:
    """Convert a Keras model to ONNX, each normalization layer as one node."""
    from onnxnorm import files, modelfile
    from onnxnorm.errors import ModelFileError

    if not files.exists(model):
        raise ModelFileError(f"{model}: no such file or directory")
    files.check_outputs([*modelfile.written(output), *([report] if report else [])], [model])
    with terminal.working(f"converting {model}"):
        from onnxnorm.conversion import convert as convert_model

        result = convert_model(model, lowering.value, opset, safe_mode=safe_mode)
        result.save(output)
        if report:
            files.write_text(result.to_json() + "\n", report)
    if as_json:
        print(result.to_json())
        return
    if result.layers:
        layers.show(result.layers)
    count = len(result.model.graph.node)
    terminal.show(f"{output}: {count} nodes, {len(result.layers)} normalization layers")
