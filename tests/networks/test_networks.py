"""Real networks, small: each converts, every normalization layer is one node, all in parity."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

pytest.importorskip("tensorflow")

import onnxnorm
from models.networks import NETWORKS, Network
from onnxnorm import cpu_kind
from onnxnorm.graph.nodes import all_graphs
from onnxnorm.opset import DOMAIN


@dataclass(frozen=True)
class Expected:
    """What a network becomes.

    Attributes:
        norms: normalization nodes, each of them a layer of its own.
        nodes: at most so many nodes in all.
        transposes: at most so many Transposes among them.
    """

    norms: int
    nodes: int
    transposes: int


EXPECTED = {
    "convnext_tiny": Expected(norms=10, nodes=98, transposes=11),
    "resnet50_group_norm": Expected(norms=12, nodes=44, transposes=2),
    "resnet50_batch_norm": Expected(norms=0, nodes=32, transposes=2),
    "style_transfer": Expected(norms=9, nodes=36, transposes=2),
    "dcgan": Expected(norms=3, nodes=15, transposes=2),
    "vit": Expected(norms=5, nodes=82, transposes=10),
    "bert": Expected(norms=5, nodes=128, transposes=10),
    "gpt2": Expected(norms=5, nodes=152, transposes=10),
    "swin_v2_tiny": Expected(norms=9, nodes=183, transposes=27),
    "coatnet0": Expected(norms=4, nodes=167, transposes=14),
    "layer_norm_lstm": Expected(norms=6, nodes=74, transposes=4),
}


def test_every_network_has_a_row() -> None:
    assert set(EXPECTED) == set(NETWORKS)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=str)
def test_network(network: Network) -> None:
    if missing := network.missing():
        pytest.skip(f"not installed: {', '.join(missing)}")
    expected = EXPECTED[network.name]
    model, inputs = network.build(small=True), network.inputs(2, small=True)

    result = onnxnorm.convert(model)

    nodes = [node for graph in all_graphs(result.model.graph) for node in graph.node]
    norms = [node.name for node in nodes if node.domain == DOMAIN]
    assert len(norms) == expected.norms
    layers = [record.nodes for record in result.layers if record.lowering == "custom"]
    assert layers == [(name,) for name in norms]
    assert len(nodes) <= expected.nodes
    assert sum(node.op_type == "Transpose" for node in nodes) <= expected.transposes

    given = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    report = onnxnorm.verify(model, result.model, inputs=given)
    assert report.native_library
    assert report, report.summary()


@pytest.mark.parametrize("name", ["resnet50_group_norm", "style_transfer"])
def test_for_this_cpu(name: str) -> None:
    model, inputs = NETWORKS[name].build(small=True), NETWORKS[name].inputs(2, small=True)
    fast = onnxnorm.optimize(onnxnorm.convert(model).model, this_cpu=True)
    assert onnxnorm.inspect(fast).cpu == cpu_kind.here()
    report = onnxnorm.verify(model, fast, inputs)
    assert report, report.summary()
