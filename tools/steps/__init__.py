"""The steps of the pipeline. Each reads what the step before it left and writes a stamp."""

from __future__ import annotations

from collections.abc import Callable

# Called with the part of a model's step that is done, from 0 to 1.
Advance = Callable[[float], None]


class PipelineError(Exception):
    """A step that cannot be done; the message says what is missing and what to do."""
