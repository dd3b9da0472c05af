"""The optimized form of a model that a session is about to load."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.external_data_helper

from onnxnorm.graph import order, renamed
from onnxnorm.graph.fusion import fuse, has_nodes
from onnxnorm.modelfile import Header, header, load
from onnxnorm.opset import DOMAIN, checks


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


def optimized(source: str | bytes, name: str = "the model", fused: bool = True) -> InMemory | None:
    """The optimized form of a model file or of its content; None where it is no other.

    Its nodes are in topological order: ONNX Runtime asks for that in functions and subgraphs.

    Only the list of operator domains is read of a model without our nodes, and of what is no ONNX
    file, such as one in ONNX Runtime's own format. External tensors are not read.

    Args:
        source: the file or its content.
        name: what an error calls it.
        fused: without it, only renamed operators get their names back and omitted inputs are
            taken out, which some releases of ONNX Runtime crash at.

    Raises:
        ModelFileError: an ONNX file that is damaged or not valid, or whose nodes form a cycle.
        NodeError: nodes of ours that are not what the domain says.
    """
    if DOMAIN not in header_of(source).domains:
        return None
    if isinstance(source, bytes):
        model = onnx.ModelProto.FromString(source)
        checks.check(model, name)
    else:
        model = load(source, weights=False)
    differs = bool(renamed.give_back(model))
    differs |= checks.drop_omitted(model)
    if fused and has_nodes(model):
        differs |= order.sort(model, name)
        differs |= any(fusion.fused for fusion in fuse(model, name))
    if not differs:
        return None
    uses_external_data = onnx.external_data_helper.uses_external_data
    if isinstance(source, bytes) or not any(map(uses_external_data, model.graph.initializer)):
        return InMemory(model.SerializeToString(), None)
    return InMemory(model.SerializeToString(), Path(source).absolute().parent)
