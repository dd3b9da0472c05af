"""The standard operators of a later version, for a model in those of tf2onnx' newest.

From 18 to 24 all but three operators only gain element types, and optional inputs and attributes
whose absence means what it meant before. So a model is raised by saying so: nothing in it changes,
functions, subgraphs and large weights included.
"""

from __future__ import annotations

import itertools

import onnx

from onnxnorm.errors import ConversionError
from onnxnorm.graph.nodes import all_graphs

# Operators with another meaning from a version on: DFT takes its axis as an input, GridSample has
# other names for its modes, GroupNormalization takes scale and bias by channel.
CHANGED = {"DFT": 20, "GridSample": 20, "GroupNormalization": 21}

# File format that came with each version of the operators.
_IR_VERSIONS = {19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12}
NEWEST = max(_IR_VERSIONS)

_STANDARD = ("", "ai.onnx")


def opset(model: onnx.ModelProto) -> int:
    """The version of the standard operators that a model uses."""
    version: int = next(e.version for e in model.opset_import if e.domain in _STANDARD)
    return version


def raise_to(model: onnx.ModelProto, version: int) -> None:
    """Makes a model one in a later version of the standard operators, in place.

    Args:
        model: a model in version 18 or later, or one in the wanted version.
        version: the wanted version, up to `NEWEST`.

    Raises:
        ConversionError: it has an operator that means something else in that version.
    """
    before = opset(model)
    if version == before:
        return
    bodies = (function.node for function in model.functions)
    graphs = (graph.node for graph in all_graphs(model.graph))
    for node in itertools.chain.from_iterable(itertools.chain(graphs, bodies)):
        if node.domain in _STANDARD and before < CHANGED.get(node.op_type, before) <= version:
            raise ConversionError(
                f"operation {node.name!r}: {node.op_type} is another operator from opset "
                f"{CHANGED[node.op_type]} on; ask for opset {CHANGED[node.op_type] - 1} or lower"
            )
    for entry in itertools.chain(model.opset_import, *(f.opset_import for f in model.functions)):
        if entry.domain in _STANDARD:
            entry.version = version
    # The formats differ in types that the model does not have; onnx refuses those it is older than.
    model.ir_version = max(model.ir_version, min(_IR_VERSIONS[version], onnx.IR_VERSION))
