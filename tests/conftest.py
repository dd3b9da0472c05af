"""Where the tests find the project's own packages."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

# TensorFlow's own default depends on the processor, and without oneDNN its CPU kernels compute
# fewer forms of convolutions. Subprocesses of the tests inherit the variable.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

_ROOT = str(Path(__file__).resolve().parents[1])
_NOT_INSTALLED = frozenset({"models", "tests", "tools"})


class _CheckoutFinder(MetaPathFinder):
    """Finds what the wheel leaves out in the checkout, and onnxnorm itself where it is installed.

    Other distributions install packages of the same names, so these come first.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [_ROOT]) if name in _NOT_INSTALLED else None


sys.meta_path.insert(0, _CheckoutFinder())
