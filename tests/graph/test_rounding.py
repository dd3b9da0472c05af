"""Marks of rounding become Casts, and no more of them than change a value."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, numpy_helper

from onnxnorm.graph.rounding import store_bfloat16

NORM = "onnxnorm.LayerNormalization <axes = [1], epsilon = 0.001, stash_type = 1>"


def stored(body: str, outside: tuple[str, ...] = (), **constants: Any) -> onnx.ModelProto:
    """A model of float32 with marks ``M``, and what becomes of it."""
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 18, "onnxnorm" : 1]> graph (float[2, 4] x) => '
        f"(float[2, 4] y) {{{body}}}"
    )
    for name, values in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    store_bfloat16(model, "M", outside)
    return model


def operators(model: onnx.ModelProto) -> str:
    names = {TensorProto.FLOAT: "float", TensorProto.BFLOAT16: "bfloat16"}
    return " ".join(
        names[node.attribute[0].i] if node.op_type == "Cast" else node.op_type
        for node in model.graph.node
    )


@pytest.mark.parametrize(
    ("body", "outside", "expected"),
    [
        ("m = Exp (x) y = M (m)", (), "Exp bfloat16 float"),
        ("m = Exp (x) y = M (m)", ("y",), "Exp bfloat16"),
        ("m = Exp (x) y = M (m)", ("x", "y"), "float Exp bfloat16"),
        ("m = Exp (x) n = M (m) y = M (n)", (), "Exp bfloat16 float"),
        (
            "m = Exp (x) n = M (m) o = Relu (n) y = M (o)",
            (),
            "Exp bfloat16 float Relu bfloat16 float",
        ),
        (f"a = M (x) n = {NORM} (a, g, g) y = M (n)", (), "bfloat16 LayerNormalization float"),
        (f"n = {NORM} (x, g, g) y = M (n)", ("x", "y"), "LayerNormalization"),
        # Another reader wants what is not rounded.
        (
            f"n = {NORM} (x, g, g) a = M (n) y = Add (a, n)",
            ("x",),
            "float LayerNormalization bfloat16 float Add",
        ),
    ],
)
def test_casts(body: str, outside: tuple[str, ...], expected: str) -> None:
    model = stored(body, outside, g=np.ones(4, np.float32))
    assert operators(model) == expected
    types = {
        v.name: v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)
    }
    for name, kind in types.items():
        assert kind == (TensorProto.BFLOAT16 if name in outside else TensorProto.FLOAT)


def test_constants_are_rounded_to_the_nearest() -> None:
    values = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, -1.01, 3.39e38, np.inf], np.float32)
    model = stored("c = M (k) t = Exp (c) y = Exp (x)", (), k=values)
    (tensor,) = model.graph.initializer
    bits = np.frombuffer(tensor.raw_data, "<u2").astype(np.uint32) << 16
    np.testing.assert_array_equal(
        bits.view(np.float32),
        np.array([1, 1 + 2.0**-6, -1.0078125, 3.3895314e38, np.inf], np.float32),
    )


@pytest.mark.parametrize(("step", "kind"), [(2.0**-7, "BFLOAT16"), (2.0**-8, "FLOAT")])
def test_large_weights_are_bfloat16_where_nothing_is_lost(step: float, kind: str) -> None:
    weight = (1 + step * (np.arange(1024) % 2)).reshape(4, 256).astype(np.float32)
    model = stored("m = MatMul (x, w) t = M (m) y = Exp (x)", (), w=weight)
    assert [t.data_type for t in model.graph.initializer] == [getattr(TensorProto, kind)]


def test_a_model_without_bfloat16_keeps_its_constants() -> None:
    model = stored("y = MatMul (x, w)", (), w=np.zeros((4, 256), np.float32))
    assert operators(model) == "MatMul"
    assert [tensor.data_type for tensor in model.graph.initializer] == [TensorProto.FLOAT]


def test_inside_a_loop() -> None:
    model = stored(
        f"""
        y = Loop (n, c, x)
            <body = body (int64 i, bool go, float[2, 4] s) => (bool on, float[2, 4] t) {{
                on = Identity (go)
                k = {NORM} (s, g, g)
                t = M (k)
            }}>
        """,
        (),
        g=np.ones(4, np.float32),
        n=np.array(3),
        c=np.array(True),
    )
    (loop,) = (node for node in model.graph.node if node.op_type == "Loop")
    (body,) = (a.g for a in loop.attribute)
    assert [n.op_type for n in body.node] == ["Identity", "Cast", "LayerNormalization", "Cast"]
    onnx.checker.check_model(model)
