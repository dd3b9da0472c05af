"""``onnxnorm verify``: does the ONNX file compute what the Keras model computes?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from onnxnorm.cli import terminal
from onnxnorm.cli.parameters import KerasModel, SafeMode
from onnxnorm.errors import ModelFileError

_NOT_IN_PARITY = 1


def verify(
    model: KerasModel,
    onnx_model: Annotated[Path, typer.Argument(metavar="OUT", help="The ONNX file made of it.")],
    inputs: Annotated[
        Path | None,
        typer.Option(help="A .npz file with one array per input, by the model's input names."),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="How many random samples to compare on, without --inputs.")
    ] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random samples.")] = 0,
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=N",
            help="Size of an unknown dimension of random samples: of INPUT:AXIS, or by its name in "
            "the ONNX file. Repeatable.",
        ),
    ] = None,
    safe_mode: SafeMode = True,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="F", help="Write JSON to F, or print it: -")
    ] = None,
) -> int:
    """Prove that an ONNX file computes what the Keras model computes.

    Exit status 0: in parity, 1: not in parity, 2: the comparison cannot be made.
    """
    from onnxnorm import files, modelfile

    sizes = _sizes(size or ())
    for path in (model, onnx_model):
        if not files.exists(path):
            raise ModelFileError(f"{path}: no such file or directory")
    reads = [model, onnx_model, *modelfile.data_files(onnx_model), *([inputs] if inputs else [])]
    files.check_outputs([] if json_file in (None, "-") else [json_file], reads)
    with terminal.working(f"comparing {onnx_model} with {model}"):
        from onnxnorm.parity import verify as verify_model

        report = verify_model(
            model, onnx_model, inputs, samples, seed, safe_mode, sizes=sizes or None
        )
        if json_file not in (None, "-"):
            files.write_text(report.to_json() + "\n", json_file)
    if json_file == "-":
        print(report.to_json())
    else:
        for line in report.lines:
            terminal.show(line)
    if report.passed:
        return 0
    terminal.complain(f"{onnx_model} is not in parity with {model}")
    return _NOT_IN_PARITY


def _sizes(texts: Sequence[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for text in texts:
        name, number = _size(text)
        if name in sizes:
            raise typer.BadParameter(
                f"{text!r}: the dimension has a size already", param_hint="'--size'"
            )
        sizes[name] = number
    return sizes


def _size(text: str) -> tuple[str, int]:
    """The name and the number of one ``--size``."""
    name, _, number = text.rpartition("=")
    if not name or not (number.isascii() and number.isdigit()) or len(number) > 18:
        raise typer.BadParameter(
            f"{text!r}: NAME=N is expected, such as image:1=64", param_hint="'--size'"
        )
    return name, int(number)
