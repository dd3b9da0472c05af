"""Topological order of nodes that stand in any."""

from __future__ import annotations

import random

import onnx
import onnx.parser
import pytest
from onnx import helper

from onnxnorm.errors import ModelFileError
from onnxnorm.graph import order

HEADER = '<ir_version: 9, opset_import: ["" : 18, "user" : 1]> '


def model(statements: str, more: str = "") -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f"{HEADER} graph (float[2] x) => (float[2] y) {{ {statements} }} {more}"
    )


def names(nodes: list[onnx.NodeProto]) -> str:
    return " ".join(node.output[0] for node in nodes)


# Statements; the results of the nodes afterwards.
ORDERS = {
    "in order": ("a = Exp (x)\n b = Neg (x)\n y = Add (b, a)", "a b y"),
    "the last is read first": ("y = Neg (a)\n b = Exp (x)\n a = Neg (x)", "a y b"),
    "chain backwards": ("y = Neg (b)\n b = Neg (a)\n a = Neg (x)", "a b y"),
    "several late ones": ("y = Add (b, a)\n c = Exp (x)\n a = Exp (x)\n b = Neg (a)", "a b y c"),
    "read by a branch": (
        "c = Constant <value = bool {1}> ()\n y = If (c) <"
        "then_branch = t () => (float[2] p) { p = Neg (z) },"
        "else_branch = e () => (float[2] q) { q = Identity (x) }>\n z = Exp (x)",
        "c z y",
    ),
    "result of a branch that is an outer value": (
        "c = Constant <value = bool {1}> ()\n y = If (c) <"
        "then_branch = t () => (float[2] z) { }, else_branch = e () => (float[2] z) { }>\n"
        "z = Exp (x)",
        "c z y",
    ),
    "a branch with a value called like a later one": (
        "c = Constant <value = bool {1}> ()\n y = If (c) <"
        "then_branch = t () => (float[2] p) { z = Exp (x)\n p = Neg (z) },"
        "else_branch = e () => (float[2] q) { q = Identity (x) }>\n z = Neg (y)",
        "c y z",
    ),
}


@pytest.mark.parametrize("name", ORDERS)
def test_order(name: str) -> None:
    statements, expected = ORDERS[name]
    before = model(statements)
    after = onnx.ModelProto.FromString(before.SerializeToString())
    moved = order.sort(after)
    assert names(list(after.graph.node)) == expected
    assert moved == (after != before)
    assert not order.sort(after)


def test_branches_and_functions() -> None:
    proto = model(
        "c = Constant <value = bool {1}> ()\n y = If (c) <"
        "then_branch = t () => (float[2] p) { p = Neg (q)\n q = Exp (z) },"
        "else_branch = e () => (float[2] q) { q = user.block (z) }>\n z = Exp (x)",
        '<domain: "user", opset_import: ["" : 18]> block (i) => (o) { o = Neg (n)\n n = Exp (i) }',
    )
    assert order.sort(proto)
    onnx.checker.check_model(proto)
    assert names(list(proto.graph.node[2].attribute[0].g.node)) == "q p"
    assert names(list(proto.functions[0].node)) == "n o"


CYCLES = {
    "itself": ("y = Add (x, y)", "Add 'y'"),
    "two": ("a = Add (x, y)\n y = Neg (a)", "(Add 'a'|Neg 'y')"),
    "behind others": ("y = Neg (a)\n a = Exp (b)\n b = Add (a, x)", "(Exp 'a'|Add 'b')"),
    "through a branch": (
        "c = Constant <value = bool {1}> ()\n y = If (c) <"
        "then_branch = t () => (float[2] p) { p = Neg (z) },"
        "else_branch = e () => (float[2] q) { q = Identity (x) }>\n z = Exp (y)",
        "(If 'y'|Exp 'z')",
    ),
}


@pytest.mark.parametrize("name", CYCLES)
def test_a_cycle_is_named(name: str) -> None:
    statements, node = CYCLES[name]
    with pytest.raises(ModelFileError, match=rf"^m\.onnx: the nodes form a cycle: {node} "):
        order.sort(model(statements), "m.onnx")


@pytest.mark.parametrize("shuffle", [random.Random(0).shuffle, list.reverse])
def test_a_chain_longer_than_recursion_goes(shuffle) -> None:
    count = 20_000
    nodes = [helper.make_node("Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(count)]
    shuffle(nodes)
    info = [helper.make_empty_tensor_value_info(name) for name in ("v0", f"v{count}")]
    proto = helper.make_model(helper.make_graph(nodes, "chain", info[:1], info[1:]))
    assert order.sort(proto)
    assert [node.output[0] for node in proto.graph.node] == [f"v{i + 1}" for i in range(count)]
