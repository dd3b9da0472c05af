"""Which nodes divide by a root of sums over what the model computes."""

from __future__ import annotations

import onnx.parser
import pytest

from onnxnorm.graph.divisions import by_root_of_sums


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ("m = ReduceMean (x) v = Add (m, e) s = Sqrt (v) r = Reciprocal (s) y = Mul (x, r)", "r"),
        ("q = Mul (x, x) m = ReduceSum (q) v = Max (m, e) s = Sqrt (v) y = Div (x, s)", "y"),
        ("s = ReduceL2 (x) t = Max (s, e) y = Div (x, t)", "y"),
        ("m = ReduceMean (x) s = Sqrt (m) t = Add (s, e) y = Div (t, x)", ""),
        ("a = Exp (x) m = ReduceSum (a) y = Div (a, m)", ""),
        ("s = Sqrt (e) y = Div (x, s)", ""),
        ("s = Sqrt (x) y = Div (x, s)", ""),
        ("s = ReduceMean (x) t = Exp (s) u = Sqrt (t) y = Div (x, u)", ""),
    ],
)
def test_by_root_of_sums(statements: str, expected: str) -> None:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> g (float[N, 4] x, float e) => (float[N, 4] y)'
        f" {{ {statements} }}"
    )
    assert [node.output[0] for node in by_root_of_sums(model)] == expected.split()
