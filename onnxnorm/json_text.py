"""JSON that every reader takes, whatever a file has in its attributes.

Python alone writes and reads ``NaN`` and ``Infinity``. Source: https://www.rfc-editor.org/rfc/rfc8259
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(value: Any) -> str:
    """Indented JSON; a number that is not finite is the text ``nan``, ``inf`` or ``-inf``."""
    return json.dumps(_finite(value), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
