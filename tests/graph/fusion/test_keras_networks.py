"""Whole networks, optimized: how many nodes go, and the same numbers as Keras."""

from __future__ import annotations

import pytest

pytest.importorskip("tensorflow")

import onnx

import onnxnorm
from models.networks import NETWORKS
from onnxnorm.graph import records
from onnxnorm.graph.fusion import fuse
from onnxnorm.graph.nodes import all_graphs

# How many nodes go into others.
GONE = {
    "resnet50_group_norm": 13,  # ten activations, three additions
    "bert": 5,  # the additions before its norms
    "layer_norm_lstm": 4,  # in two loops, one addition before a norm and one behind
}


def count(model: onnx.ModelProto) -> int:
    return sum(len(graph.node) for graph in all_graphs(model.graph))


@pytest.mark.parametrize("name", GONE)
def test_network(name: str) -> None:
    network = NETWORKS[name]
    if missing := network.missing():
        pytest.skip(f"not installed: {', '.join(missing)}")
    model, inputs = network.build(small=True), network.inputs(2, small=True)
    converted = onnxnorm.convert(model).model
    optimized = onnxnorm.optimize(converted)
    onnx.checker.check_model(optimized, full_check=True)
    assert count(converted) - count(optimized) == GONE[name]
    told = [note for record in records.read(optimized) for note in record.fused]
    assert len(told) == sum(len(fusion.fused) for fusion in fuse(converted))
    given = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    report = onnxnorm.verify(model, optimized, inputs=given)
    assert report.native_library
    assert report, report.summary()
