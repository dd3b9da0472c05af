"""One fuzz target, led by what its content makes run: python -m tests.fuzz.one TARGET OPTIONS…"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["onnxnorm"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name].run)
    atheris.Fuzz()
