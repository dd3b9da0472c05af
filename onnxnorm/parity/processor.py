"""What TensorFlow's CPU kernels do not compute, told from all else that fails."""

from __future__ import annotations

import re

_LIMIT = re.compile(
    r"only supports?\b.*\bN[A-Z]*C\b|not (yet )?support(ed)?\b.*\bdilation|supports? only",
    re.IGNORECASE,
)
_CHANNELS_FIRST = re.compile(r"\bNC[DHW]+\b.*not supported", re.IGNORECASE)


def is_limit(message: str) -> bool:
    """Whether an error says that TensorFlow has no CPU kernel for this form of an operation."""
    return bool(_LIMIT.search(message) or _CHANNELS_FIRST.search(message))


def advice() -> str:
    """What to set so that TensorFlow computes more forms of its operations on the CPU."""
    from tensorflow.python.util import _pywrap_util_port

    if _pywrap_util_port.IsMklEnabled():
        return "verify where TensorFlow has a GPU, or make the model of layers that a CPU computes"
    return (
        "TensorFlow does with oneDNN, which is off here: set the environment variable "
        "TF_ENABLE_ONEDNN_OPTS=1 before Python starts"
    )
