"""What ONNX Runtime says went wrong, as one line."""

from __future__ import annotations

import re

_CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : (\w+) : ")
_NODE = re.compile(
    r"Non-zero status code returned while running (\S+) node\. Name:\s*'(.*?)' Status Message:\s*"
)
# Where in ONNX Runtime's source the error was made: file and line, the C++ function, and the
# condition that was checked there.
_SOURCE = re.compile(
    r"\S+\.(?:cc|h|cpp|hpp|cu):\d+ (?:.*?\w\(.*?\)(?: const)?|\w+) (?:.*? was false\. )?"
)


def one_line(error: Exception) -> str:
    """The error with the node that it names, without its code and places in ONNX Runtime's source.

    Of a message of several lines the first two, since traces follow.
    """
    text = _CODE.sub("", str(error).strip())
    found = _NODE.search(text)
    at = ""
    if found:
        operator, name = found.groups()
        at = f"node {name!r} ({operator})" if name else f"a node {operator} without name"
        text = _NODE.sub("", text)
    lines = [line.strip() for line in _SOURCE.sub("", text).splitlines() if line.strip()]
    reason = " ".join(lines[:2])
    return ": ".join(part for part in (at, reason) if part) or type(error).__name__
