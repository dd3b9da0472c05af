"""``onnxnorm verify``: does the ONNX file compute what the Keras model computes?"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxnorm.cli import terminal
from onnxnorm.errors import ModelFileError, VerificationError

if TYPE_CHECKING:
    import numpy.typing as npt

_NOT_IN_PARITY = 1


def verify(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="A .keras or .h5 file or a SavedModel directory."),
    ],
    onnx_model: Annotated[Path, typer.Argument(metavar="OUT", help="The ONNX file made of it.")],
    inputs: Annotated[
        Path | None,
        typer.Option(help="A .npz file with one array per input, by the model's input names."),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="How many random samples to compare on, without --inputs.")
    ] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random samples.")] = 0,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="F", help="Write JSON to F, or print it: -")
    ] = None,
) -> int:
    """Prove that an ONNX file computes what the Keras model computes.

    Exit status 0: in parity, 1: not in parity, 2: the comparison cannot be made.
    """
    from onnxnorm import modelfile

    for path in (model, onnx_model):
        if not path.exists():
            raise ModelFileError(f"{path}: no such file or directory")
    if json_file not in (None, "-"):
        modelfile.check_destination(json_file)
    arrays = None if inputs is None else _load_inputs(inputs)
    with terminal.working(f"comparing {onnx_model} with {model}"):
        from onnxnorm.parity import verify as verify_model

        report = verify_model(model, onnx_model, inputs=arrays, samples=samples, seed=seed)
        if json_file not in (None, "-"):
            modelfile.write_text(report.to_json() + "\n", json_file)
    if json_file == "-":
        print(report.to_json())
    else:
        terminal.show(str(report))
    if report.passed:
        return 0
    terminal.complain(f"{onnx_model} is not in parity with {model}")
    return _NOT_IN_PARITY


def _load_inputs(path: Path) -> dict[str, npt.NDArray[Any]]:
    import numpy as np

    try:
        # Object arrays are pickles, which run code when they are read.
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise VerificationError(f"{path}: no such file") from error
    except (OSError, ValueError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise VerificationError(
            f"{path}: not a .npz file of plain arrays (numpy.savez writes one): {error}"
        ) from error
