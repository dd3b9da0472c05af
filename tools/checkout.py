"""Where Python finds the checkout, for what is run as `python -m tools.…`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def behind_installed() -> None:
    """Puts the checkout behind the installed packages.

    So an installed onnxnorm, which has its library, goes before the sources; and the folder `tools`
    itself, whose names are too common, goes.
    """
    own = (ROOT, ROOT / "tools")
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() not in own]
    sys.path.append(str(ROOT))
