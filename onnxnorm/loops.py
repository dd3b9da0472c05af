"""Recurrent layers in float64 stay loops: ONNX Runtime has no float64 LSTM, GRU or RNN."""

from __future__ import annotations

from typing import Any

from onnxnorm import concrete
from onnxnorm.bfloat16 import MARK_OP


def keep_float64(tf: Any, graph_def: Any) -> None:
    """Keeps tf2onnx from recognizing cells that compute in float64, in place.

    Args:
        tf: the ``tensorflow`` module.
        graph_def: a frozen ``GraphDef``; its functions are renamed where one of them changes.
    """
    double = tf.float64.as_datatype_enum
    changed = False
    for body in graph_def.library.function:
        products = [n for n in body.node_def if n.op == "MatMul" and n.attr["T"].type == double]
        renamed = {f"{n.name}:product:0": f"{n.name}/kept:output:0" for n in products}
        for node in body.node_def:
            node.input[:] = [renamed.get(name, name) for name in node.input]
        for node in products:
            kept = body.node_def.add(op=MARK_OP, name=f"{node.name}/kept")
            kept.input.append(f"{node.name}:product:0")
            kept.attr["T"].type = double
        for name, source in body.ret.items():
            body.ret[name] = renamed.get(source, source)
        changed = changed or bool(products)
    if changed:
        concrete.rename_functions(graph_def)
