"""Parameters that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

KerasModel = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A .keras or .h5 file or a SavedModel directory.")
]
SafeMode = Annotated[
    bool,
    typer.Option(
        "--safe-mode/--no-safe-mode",
        help="Refuse files that name or hold what is not known to be safe, such as Lambda layers.",
    ),
]
