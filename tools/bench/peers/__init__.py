"""Everything that takes part in a race: a module here for each library, which imports it.

Each runs in a process of its own and has

- `start(processors)`: the library with a thread on each of these;
- `layer(layer, form, files)` and, where it can, `network(network, form, files)`: a `Runner`, or
  `UnsupportedError`. Forms are a peer's own: a layout, or one of the ONNX files in the folder.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from numpy.typing import NDArray


class UnsupportedError(Exception):
    """A peer cannot run a case; the message says why in a few words."""


@dataclass(frozen=True)
class Runner:
    """What a peer has prepared.

    Attributes:
        call: runs it, from tensors in the peer's memory to a tensor there.
        output: the result of the latest call; of a layer with its channels last.
    """

    call: Callable[[], object]
    output: Callable[[], NDArray[Any]]


def start(name: str, processors: tuple[int, ...]) -> ModuleType:
    """The module of a peer, its library started."""
    peer = importlib.import_module(f"{__name__}.{name}_peer")
    peer.start(processors)
    return peer
