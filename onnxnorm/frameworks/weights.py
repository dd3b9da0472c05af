"""A weight that a wrapper computes for the layer inside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt


@dataclass(frozen=True)
class Weight:
    """The weight as it is at inference.

    Attributes:
        holder: the layer or recurrent cell that computes with it.
        attribute: by what name.
        value: the weight.
    """

    holder: Any
    attribute: str
    value: npt.NDArray[Any]
