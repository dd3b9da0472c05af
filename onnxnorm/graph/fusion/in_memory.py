"""The optimized form of a model that a session is about to load."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.external_data_helper

from onnxnorm.graph import renamed
from onnxnorm.graph.fusion import fuse, has_nodes
from onnxnorm.modelfile import Header, header, load
from onnxnorm.opset import DOMAIN


@dataclass(frozen=True)
class InMemory:
    """A serialized model.

    Attributes:
        content: the model.
        folder: where the files with its external tensors lie; None where it has none, or where
            the content that it was made of did not tell.
    """

    content: bytes
    folder: Path | None


def header_of(source: str | bytes) -> Header:
    """What a model file or its content tells of itself beside the graph."""
    if isinstance(source, bytes):
        return header(io.BytesIO(source))
    with open(source, "rb") as stream:
        return header(stream)


def optimized(source: str | bytes) -> InMemory | None:
    """The optimized form of a model file or of its content; None where it is no other.

    Only the list of operator domains is read of a model without our nodes, and of what is no ONNX
    file, such as one in ONNX Runtime's own format. External tensors are not read.

    Raises:
        ModelFileError: an ONNX file that is damaged or not valid.
    """
    if DOMAIN not in header_of(source).domains:
        return None
    if isinstance(source, bytes):
        model = onnx.ModelProto.FromString(source)
    else:
        model = load(source, weights=False)
    was_renamed = bool(renamed.give_back(model))
    if not has_nodes(model):
        return None
    if not any(fusion.fused for fusion in fuse(model)) and not was_renamed:
        return None
    uses_external_data = onnx.external_data_helper.uses_external_data
    if isinstance(source, bytes) or not any(map(uses_external_data, model.graph.initializer)):
        return InMemory(model.SerializeToString(), None)
    return InMemory(model.SerializeToString(), Path(source).absolute().parent)
