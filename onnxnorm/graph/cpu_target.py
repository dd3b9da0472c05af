"""The one kind of CPU that a model was optimized for, kept in the model itself as metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import onnx

from onnxnorm.errors import ModelFileError
from onnxnorm.graph.nodes import keep_only

METADATA_KEY = "onnxnorm.cpu"
# Wider than the vector registers of any CPU.
_WIDEST_BLOCK = 1024


@dataclass(frozen=True)
class CpuTarget:
    """Where a model with operators of ONNX Runtime's own layout runs.

    Attributes:
        channel_block: how many channels ONNX Runtime keeps in a block there.
        onnxruntime: the release that wrote these operators, and the weights as they read them.
    """

    channel_block: int
    onnxruntime: str

    def __str__(self) -> str:
        return (
            f"CPUs with blocks of {self.channel_block} channels and onnxruntime {self.onnxruntime}"
        )


def read(model: onnx.ModelProto, name: str = "the model") -> CpuTarget | None:
    """The target of a model; None for one that runs anywhere.

    Args:
        model: the model.
        name: what an error calls it.

    Raises:
        ModelFileError: there is one, but not such as `write` writes.
    """
    return of_metadata({entry.key: entry.value for entry in model.metadata_props}, name)


def of_metadata(metadata: Mapping[str, str], name: str) -> CpuTarget | None:
    """The target that a model's metadata tell of; see `read`."""
    if METADATA_KEY not in metadata:
        return None
    try:
        fields = json.loads(metadata[METADATA_KEY])
        target = CpuTarget(int(fields["channel_block"]), str(fields["onnxruntime"]))
        if not 0 < target.channel_block <= _WIDEST_BLOCK:
            raise ValueError("channel_block")
        return target
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ModelFileError(
            f"{name}: the metadata {METADATA_KEY!r} tell of no kind of CPU "
            f"({type(error).__name__}: {error})"
        ) from error


def write(model: onnx.ModelProto, target: CpuTarget) -> None:
    """Puts the target into the model."""
    keep_only(model.metadata_props, lambda entry: entry.key != METADATA_KEY)
    model.metadata_props.add(key=METADATA_KEY, value=json.dumps(asdict(target)))
