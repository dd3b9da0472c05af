"""What other tools did to the operators and records that onnxnorm wrote into a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx

from onnxnorm.graph.nodes import all_graphs
from onnxnorm.graph.records import LayerRecord
from onnxnorm.graph.renamed import operator_name
from onnxnorm.opset import DOMAIN, OPERATOR_NAMES

_MOST_NAMES = 3


def traces(
    model: onnx.ModelProto, renamed: Sequence[str], layers: Sequence[LayerRecord]
) -> Iterator[str]:
    """One line for each kind of change that is left in the file.

    Args:
        model: the model, its operators under their own names.
        renamed: the names that functions of the model had in the file, as ``domain::name``.
        layers: the records in the model.
    """
    names = [
        node.name
        for graph in all_graphs(model.graph)
        for node in graph.node
        if node.domain == DOMAIN
    ]
    if renamed:
        is_imported = all(name.startswith(f"{DOMAIN}::") for name in renamed)
        yield (
            f"other names of {DOMAIN} operators, known by their bodies: {_listed(renamed)}; "
            f"{'sessions and optimize give' if is_imported else 'optimize gives'} them their own "
            "names back"
        )
    if names and all(entry.domain != DOMAIN for entry in model.opset_import):
        yield f"nodes are of the operator domain {DOMAIN}, and the file does not import it"
    unknown = [f.name for f in model.functions if f.domain == DOMAIN and operator_name(f) is None]
    unknown = [name for name in unknown if name not in OPERATOR_NAMES]
    if unknown:
        yield (
            f"functions of the operator domain {DOMAIN} with names of no operator: "
            f"{_listed([f'{DOMAIN}::{name}' for name in unknown])}; "
            "they were changed, or another release of onnxnorm wrote them"
        )
    recorded = {name for layer in layers for name in layer.nodes}
    lost = [name for name in names if name not in recorded]
    if lost and layers:
        yield (
            f"no layer record of node {_listed(list(map(repr, lost)))}: another tool took it, as "
            "onnx.version_converter takes records and function bodies"
        )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
