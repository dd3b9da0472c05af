"""The commands, put together."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

import onnxnorm
from onnxnorm.cli import streams, terminal
from onnxnorm.cli.bench import bench
from onnxnorm.cli.convert import convert
from onnxnorm.cli.info import info
from onnxnorm.cli.inspect import inspect
from onnxnorm.cli.optimize import optimize
from onnxnorm.cli.verify import verify
from onnxnorm.errors import OnnxNormError

# click's UsageError, which newer releases of Typer carry in a copy of their own.
_USAGE_ERROR: type[typer.BadParameter] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    help="Keras normalization layers as single, fused, verified ONNX nodes.",
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command, _example in (
    (convert, "onnxnorm convert model.h5 -o model.onnx"),
    (verify, "onnxnorm verify model.h5 model.onnx --samples 64"),
    (optimize, "onnxnorm optimize model.onnx --this-cpu -o fast.onnx"),
    (bench, "onnxnorm bench model.onnx --against other.onnx --batch 8"),
    (inspect, "onnxnorm inspect model.onnx"),
    (info, "onnxnorm info"),
):
    app.command(epilog=f"Example: {_example}")(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"onnxnorm {onnxnorm.__version__}")
        raise typer.Exit


@app.callback(epilog="Example: onnxnorm convert model.h5 -o model.onnx")
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and library logs. [ONNXNORM_DEBUG=1]")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Version.")
    ] = False,
) -> None: ...


def run(given: list[str], signals: Sequence[int]) -> int:
    """Runs a command; see `onnxnorm.cli.main`.

    Args:
        given: its name and arguments.
        signals: those that came meanwhile: then what went wrong is raised.

    With ``--debug`` a traceback tells of what went wrong, and not a line.
    """
    # Taken out here, so that it may stand anywhere.
    if "--debug" in given:
        given.remove("--debug")
        os.environ[terminal.DEBUG_VARIABLE] = "1"
    try:
        status = int(app(given, prog_name="onnxnorm", standalone_mode=False) or 0)
    except (BrokenPipeError, SystemExit):  # Typer makes the second of the first
        status = streams.READER_GONE
    except Exception as error:
        if signals:
            raise
        if terminal.debugging():
            streams.complain("".join(traceback.format_exception(error)))
        else:
            terminal.complain(_explanation(error))
        status = 2
    return streams.finish(status)


def _explanation(error: Exception) -> str:
    if isinstance(error, OnnxNormError):
        return str(error)
    if isinstance(error, _USAGE_ERROR):
        context = error.ctx
        command = context.command_path if context else "onnxnorm"
        return f"{error.format_message()} See: {command} --help"
    if isinstance(error, MemoryError):
        return f"not enough memory{': ' if str(error) else ''}{error}"
    if isinstance(error, OSError) and error.strerror:
        where = os.fsdecode(error.filename) if error.filename else "cannot read or write"
        return f"{where}: {error.strerror}"
    name = type(error).__name__
    return f"unexpected {name}: {error} (a fault of onnxnorm: --debug shows where it happened)"
