"""norm → activation: every form of every activation, and when it has to stay."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest

from onnxnorm.graph.fusion import fuse
from onnxnorm.graph.nodes import attributes_of
from onnxnorm.opset.activations import ACTIVATIONS
from tests.graph.fusion.graphs import as_type, assert_same, fused, operators, parsed

# Scalars that the statements below may name.
CONSTANTS = (
    "float zero = {0}, float half = {0.5}, float one = {1}, float two = {2}, float three = {3}, "
    "float six = {6}, float sixth = {0.16666667}, float root = {0.70710678}, "
    "float over = {1.41421356}, float minus = {-1}, float cubic = {0.044715}, "
    "float outer = {0.79788456}, float beta = {1.702}, float fifth = {0.2}, "
    "float[1] six_of_rank_1 = {6}, float[1,1,1] six_of_rank_3 = {6}"
)
GELU = "Gelu", ()
FAST_GELU = "FastGelu", ()
HARD_SWISH = "HardSwish", ()
RELU6 = "Clip", (0, 6)

# Statements from v, the norm's result, to y; the activation; the opsets where it is of interest.
FORMS: dict[str, tuple[str, tuple[str, tuple[float, ...]], tuple[int, ...]]] = {
    "relu": ("y = Relu (v)", ("Relu", ()), (15, 18, 20)),
    "relu as maximum": ("y = Max (zero, v)", ("Relu", ()), (18,)),
    "relu twice": ("a = Relu (v)\n y = Relu (a)", ("Relu", ()), (18,)),
    "relu and identity": ("a = Relu (v)\n y = Identity (a)", ("Relu", ()), (18,)),
    "clip": ("y = Clip (v, zero, six)", RELU6, (15, 18, 20)),
    "clip from below": ("y = Clip (v, half)", ("Clip", (0.5, math.inf)), (18,)),
    "clip from above": ("y = Clip (v, , six)", ("Clip", (-math.inf, 6)), (18,)),
    "clip by Constant nodes": (
        "l = Constant <value = float {0.0}> ()\n h = Constant <value_float = 6.0> ()\n"
        "y = Clip (v, l, h)",
        RELU6,
        (18,),
    ),
    "relu and minimum": ("a = Relu (v)\n y = Min (a, six)", RELU6, (18,)),
    "minimum and maximum": ("a = Min (six, v)\n y = Max (a, zero)", RELU6, (18,)),
    "bounds of higher rank": ("a = Relu (v)\n y = Min (a, six_of_rank_3)", RELU6, (18,)),
    "leaky relu": ("y = LeakyRelu <alpha = 0.3> (v)", ("LeakyRelu", (0.3,)), (15, 18)),
    "leaky relu by default": ("y = LeakyRelu (v)", ("LeakyRelu", (0.01,)), (18,)),
    "leaky relu as maximum": ("a = Mul (v, fifth)\n y = Max (a, v)", ("LeakyRelu", (0.2,)), (18,)),
    "elu": ("y = Elu <alpha = 0.5> (v)", ("Elu", (0.5,)), (18,)),
    "elu by comparison": (
        "p = Greater (v, zero)\n e = Elu (v)\n a = Mul (e, fifth)\n y = Where (p, e, a)",
        ("Elu", (0.2,)),
        (18,),
    ),
    "selu": ("y = Selu (v)", ("Selu", (1.6732632, 1.0507010)), (18,)),
    "selu of elu": (
        "e = Elu <alpha = 1.5> (v)\n y = Mul (two, e)",
        ("Selu", (1.5, 2)),
        (18,),
    ),
    "gelu": ("y = Gelu (v)", GELU, (20,)),
    "gelu, tanh": ('y = Gelu <approximate = "tanh"> (v)', FAST_GELU, (20,)),
    "gelu, none": ('y = Gelu <approximate = "none"> (v)', GELU, (20,)),
    "gelu, halved first": (
        "h = Mul (half, v)\n a = Mul (v, root)\n e = Erf (a)\n p = Add (one, e)\n y = Mul (h, p)",
        GELU,
        (15, 18),
    ),
    "gelu, halved last, divided": (
        "a = Div (v, over)\n e = Erf (a)\n p = Add (e, one)\n g = Mul (v, p)\n y = Mul (g, half)",
        GELU,
        (18,),
    ),
    "gelu, gate halved": (
        "a = Mul (root, v)\n e = Erf (a)\n p = Add (one, e)\n g = Mul (p, half)\n y = Mul (g, v)",
        GELU,
        (18,),
    ),
    "gelu, divided by two": (
        "h = Div (v, two)\n a = Div (v, over)\n e = Erf (a)\n p = Add (one, e)\n y = Mul (p, h)",
        GELU,
        (18,),
    ),
    "gelu, complement": (
        "h = Mul (half, v)\n n = Neg (v)\n a = Mul (n, root)\n e = Erf (a)\n p = Sub (one, e)\n"
        "y = Mul (h, p)",
        GELU,
        (18,),
    ),
    "tanh gelu, power": (
        "h = Mul (half, v)\n c = Pow (v, three)\n k = Mul (cubic, c)\n i = Add (v, k)\n"
        "o = Mul (outer, i)\n t = Tanh (o)\n p = Add (one, t)\n y = Mul (h, p)",
        FAST_GELU,
        (15, 18),
    ),
    "tanh gelu, products": (
        "q = Mul (v, v)\n c = Mul (v, q)\n k = Mul (c, cubic)\n i = Add (k, v)\n"
        "o = Mul (i, outer)\n t = Tanh (o)\n p = Add (t, one)\n g = Mul (p, v)\n y = Mul (g, half)",
        FAST_GELU,
        (18,),
    ),
    "tanh gelu, factored": (
        "q = Mul (v, v)\n k = Mul (cubic, q)\n i = Add (one, k)\n f = Mul (v, outer)\n"
        "o = Mul (f, i)\n t = Tanh (o)\n p = Add (one, t)\n h = Mul (v, half)\n y = Mul (h, p)",
        FAST_GELU,
        (18,),
    ),
    "silu": ("g = Sigmoid (v)\n y = Mul (v, g)", ("Swish", (1,)), (15, 18)),
    "silu, swapped": ("g = Sigmoid (v)\n y = Mul (g, v)", ("Swish", (1,)), (18,)),
    "swish": (
        "a = Mul (beta, v)\n g = Sigmoid (a)\n y = Mul (v, g)",
        ("Swish", (1.702,)),
        (18,),
    ),
    "sigmoid": ("y = Sigmoid (v)", ("Sigmoid", ()), (18,)),
    "tanh": ("y = Tanh (v)", ("Tanh", ()), (18,)),
    "softplus": ("y = Softplus (v)", ("Softplus", ()), (18,)),
    "hard swish": ("y = HardSwish (v)", HARD_SWISH, (15, 18)),
    "hard swish, hard sigmoid": (
        "g = HardSigmoid <alpha = 0.16666667, beta = 0.5> (v)\n y = Mul (v, g)",
        HARD_SWISH,
        (18,),
    ),
    "hard swish, clip": (
        "a = Add (v, three)\n c = Clip (a, zero, six)\n m = Mul (v, c)\n y = Div (m, six)",
        HARD_SWISH,
        (15, 18),
    ),
    "hard swish, gate divided": (
        "a = Add (three, v)\n r = Relu (a)\n c = Min (r, six_of_rank_1)\n g = Mul (c, sixth)\n"
        "y = Mul (g, v)",
        HARD_SWISH,
        (18,),
    ),
}
NORM = "[norm] v = NORM (x, s, b)\n"


@pytest.mark.parametrize(
    ("name", "opset", "element"),
    [
        (name, opset, element)
        for name, (statements, _, opsets) in FORMS.items()
        for opset in opsets
        for element in (("float",) if "Constant <" in statements else ("float", "float16"))
    ],
)
def test_form(name: str, opset: int, element: str) -> None:
    statements, (activation, parameters), _ = FORMS[name]
    model = as_type(parsed(NORM + statements, constants=CONSTANTS, opset=opset), element)
    after, _ = fused(model)
    assert operators(after) == "LayerNormalization"
    attributes = attributes_of(after.graph.node[0])
    assert attributes["activation"].decode() == activation
    given = attributes.get("activation_params", ())
    np.testing.assert_allclose(given, parameters, rtol=1e-6 if element == "float" else 1e-3)
    assert len(parameters) == len(ACTIVATIONS[activation].parameters)
    assert {tensor.name for tensor in after.graph.initializer} == {"s", "b"}
    assert_same(model, after)


def test_every_activation_has_a_form() -> None:
    assert {activation for _, (activation, _), _ in FORMS.values()} == set(ACTIVATIONS)


# Statements that are no activation, or one that has to stay, and why it does.
STAYS = {
    "another factor": (
        "a = Mul (v, half)\n g = Sigmoid (v)\n y = Mul (a, g)",
        "Sigmoid: 'v' is read by Mul 'a' too",
    ),
    "other constants": (
        "h = Mul (half, v)\n a = Mul (v, fifth)\n e = Erf (a)\n p = Add (one, e)\n y = Mul (h, p)",
        "behind it",
    ),
    "quadratic": ("y = Mul (v, v)", "behind it"),
    "another operand": ("g = Sigmoid (v)\n y = Mul (x, g)", None),
    "bounds of several elements": ("y = Min (v, s)", "Min 'y' behind it"),
    "a bound that is computed": ("m = ReduceMax <keepdims = 0> (x)\n y = Min (v, m)", "behind it"),
    "of another domain": ("y = onnxnorm.Relu (v)", "Relu 'y' behind it"),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_is_no_activation_stays(name: str) -> None:
    statements, reason = STAYS[name]
    after, fusions = fused(parsed(NORM + statements, constants=CONSTANTS))
    activation = attributes_of(after.graph.node[0]).get("activation")
    if reason is None:  # the sigmoid alone is one
        assert activation == b"Sigmoid"
        return
    assert activation is None
    assert any(reason in told for told in fusions["norm"].not_fused)


@pytest.mark.parametrize(
    ("statements", "outputs", "reason"),
    [
        ("y = Relu (v)", "float[N,6,8] y, float[N,6,8] v", "Relu: 'v' is an output"),
        ("y = Relu (v)\n z = Neg (v)", "float[N,6,8] y, float[N,6,8] z", "read by Neg 'z' too"),
        (
            "g = Sigmoid (v)\n y = Mul (v, g)\n z = Exp (g)",
            "float[N,6,8] y, float[N,6,8] z",
            "'g' is read by Exp 'z' too",
        ),
        (
            "y = Relu (v)\n c = Constant <value_int = 1> ()\n d = Cast <to = 9> (c)\n"
            "z = If (d) <then_branch = t () => (float[N,6,8] a) { a = Neg (v) },"
            "else_branch = e () => (float[N,6,8] a2) { a2 = Identity (x) }>",
            "float[N,6,8] y, float[N,6,8] z",
            "read by If 'z' too",
        ),
    ],
)
def test_a_result_that_others_need_stays(statements: str, outputs: str, reason: str) -> None:
    before = parsed(NORM + statements, constants=CONSTANTS, outputs=outputs)
    after, fusions = fused(before)
    assert operators(after) == operators(before)
    assert any(reason in told for told in fusions["norm"].not_fused), fusions["norm"]


def test_the_part_that_others_do_not_need_is_taken() -> None:
    statements = NORM + "r = Relu (v)\n y = Min (r, six)\n z = Neg (r)"
    outputs = "float[N,6,8] y, float[N,6,8] z"
    before = parsed(statements, constants=CONSTANTS, outputs=outputs)
    after, fusions = fused(before)
    assert operators(after) == "LayerNormalization Min Neg"
    assert fusions["norm"].fused == ("Relu",)
    assert_same(before, after)


def test_a_bound_that_is_no_number_stays() -> None:
    model = parsed(NORM + "r = Relu (v)\n y = Clip <min = 0.0> (r)", opset=10)
    del model.functions[:]  # their bodies need operators newer than this Clip
    model.graph.node[-1].attribute[0].f = float("nan")
    fuse(model)
    assert operators(model) == "LayerNormalization Clip"


def test_an_overridable_initializer_is_no_constant() -> None:
    before = parsed(
        NORM + "y = Min (v, limit)",
        constants="float limit = {6}",
        inputs="float[N,6,8] x, float limit",
    )
    assert operators(fused(before)[0]) == "LayerNormalization Min"


def test_numbers_that_float32_rounds_stay_in_float64() -> None:
    before = parsed(NORM + "y = LeakyRelu <alpha = 0.25> (v)\n")
    assert operators(fused(as_type(before, "double"))[0]) == "LayerNormalization"
    before = parsed(NORM + "a = Mul (v, fifth)\n y = Max (a, v)", constants="double fifth = {0.2}")
    assert operators(fused(as_type(before, "double"))[0]) == "LayerNormalization Mul Max"


@pytest.mark.parametrize("operator", ["GroupNormalization", "InstanceNormalization"])
def test_other_operators(operator: str) -> None:
    model = parsed(NORM + "y = Relu (v)", inputs="float[N,8,6] x", outputs="float[N,8,6] y")
    node = model.graph.node[0]
    node.op_type = operator
    del node.attribute[:]
    if operator == "GroupNormalization":
        node.attribute.append(onnx.helper.make_attribute("num_groups", 2))
    after, _ = fused(model)
    assert operators(after) == operator
    assert_same(model, after)
