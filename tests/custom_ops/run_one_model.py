"""Does the native library work with the ONNX Runtime of this environment?

    python tests/custom_ops/run_one_model.py

Needs the onnxnorm wheel and an onnxruntime, and no test tools, so that one wheel can be tried with
every ONNX Runtime in turn. Prints one line and exits with 0 when every operator and element type
gives the right values, in place and from several threads, and a wrong model is refused; or, with an
ONNX Runtime before 1.18, when the library is refused with a clear message.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

import onnxnorm
from onnxnorm.opset import DOMAIN, OPERATORS, VERSION

OLDEST = (1, 18)
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "GroupNormalization": {"axis": -1, "num_groups": 3},
    "InstanceNormalization": {"axis": 3},
    "LayerNormalization": {"axes": [1, 2, 3]},
    "RMSNormalization": {"axes": [3]},
    "FilterResponseNormalization": {"axes": [1, 2]},
    "UnitNormalization": {"axes": [-1]},
}
#: Element type and what its rounding, twice, may cost.
ELEMENTS = {
    TensorProto.FLOAT: 1e-5,
    TensorProto.DOUBLE: 1e-12,
    TensorProto.FLOAT16: 0.02,
    TensorProto.BFLOAT16: 0.15,
}
SHAPES = {"X": ["batch", "height", 7, 6], "scale": [6], "bias": [6]}


def two_norms(operator: str, element: int, attributes: dict[str, Any]) -> onnx.ModelProto:
    """norm1(norm0(X)) in the element type, double outside."""
    double = TensorProto.DOUBLE
    inputs = [helper.make_tensor_value_info(name, double, shape) for name, shape in SHAPES.items()]
    nodes = [helper.make_node("Cast", [name], [f"{name}0"], to=element) for name in SHAPES]
    for i in range(2):
        names = [f"X{i}", "scale0", "bias0"]
        nodes.append(
            helper.make_node(
                operator, names, [f"X{i + 1}"], name=f"norm{i}", domain=DOMAIN, **attributes
            )
        )
    nodes.append(helper.make_node("Cast", ["X2"], ["Y"], to=double))
    outputs = [helper.make_tensor_value_info("Y", double, None)]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, VERSION)]
    graph = helper.make_graph(nodes, "two_norms", inputs, outputs)
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def load(
    model: onnx.ModelProto, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def check(operator: str, element: int, options: onnxruntime.SessionOptions) -> None:
    name = f"{operator} of {TensorProto.DataType.Name(element)}"
    attributes = ATTRIBUTES[operator]
    session = load(two_norms(operator, element, attributes), options)
    declared = session.get_outputs()[0].shape
    if declared != SHAPES["X"]:
        sys.exit(f"{name}: inferred shape {declared} for {SHAPES['X']}")
    rng = np.random.default_rng(0)
    # Quarters are exact in every element type.
    x = np.round(rng.standard_normal((8, 40, 7, 6)) * 4) / 4 + 3
    scale, bias = np.round(rng.standard_normal((2, 6)) * 4) / 4
    with ThreadPoolExecutor(4) as pool:
        feeds = {"X": x, "scale": scale, "bias": bias}
        results = list(pool.map(lambda _: session.run(None, feeds)[0], range(16)))
    expected = x
    for _ in range(2):
        epsilon = float(np.float32(OPERATORS[operator].attributes["epsilon"]))
        expected = OPERATORS[operator].reference(
            expected, scale, bias, epsilon=epsilon, **attributes
        )
    for result in results:
        error = float(np.abs(result - expected).max())
        if not error <= ELEMENTS[element]:
            sys.exit(f"{name}: off by {error}")


def check_optimized(options: onnxruntime.SessionOptions) -> None:
    """A norm that has swallowed an activation and a residual: its kernel and its function body."""
    attributes = {"axes": [3], "activation": "LeakyRelu", "activation_params": [0.25]}
    rng = np.random.default_rng(0)
    # Quarters are exact in every element type.
    x = np.round(rng.standard_normal((8, 40, 7, 6)) * 4) / 4
    scale, bias = np.round(rng.standard_normal((2, 6)) * 4) / 4
    operator = OPERATORS["LayerNormalization"]
    epsilon = float(np.float32(operator.attributes["epsilon"]))
    expected = operator.reference(x, scale, bias, axes=[3], epsilon=epsilon) + x
    expected = np.where(expected < 0, expected / 4, expected)
    without = onnxruntime.SessionOptions()
    without.log_severity_level = 3
    for element in ELEMENTS:
        stash = TensorProto.DOUBLE if element == TensorProto.DOUBLE else TensorProto.FLOAT
        model = two_norms("LayerNormalization", element, {**attributes, "stash_type": stash})
        model.graph.node.pop(-2)
        model.graph.node[-1].input[0] = "X1"
        model.graph.node[-2].input.append("X0")
        for _ in SHAPES["X"]:  # onnx wants the rank of an output
            model.graph.output[0].type.tensor_type.shape.dim.add()
        optimized = onnxnorm.optimize(model)
        for way, form, how in (
            ("kernel of an older file", model, options),
            ("kernel", optimized, options),
            ("function body", optimized, without),
        ):
            name = f"optimized, {way} of {TensorProto.DataType.Name(element)}"
            session = load(form, how)
            if how is options and session.get_outputs()[0].shape != SHAPES["X"]:
                sys.exit(f"{name}: inferred shape {session.get_outputs()[0].shape}")
            (y,) = session.run(None, {"X": x, "scale": scale, "bias": bias})
            error = float(np.abs(y - expected).max())
            if not error <= ELEMENTS[element]:
                sys.exit(f"{name}: off by {error}")


def check_refusal(options: onnxruntime.SessionOptions) -> None:
    wrong = two_norms("GroupNormalization", TensorProto.FLOAT, {"num_groups": 4, "axis": 3})
    try:
        load(wrong, options)
    except Exception as error:
        if "node 'norm0': num_groups is 4" not in str(error):
            raise
    else:
        sys.exit("6 channels in 4 groups were not refused")


def main() -> int:
    version = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    library = str(onnxnorm.library_path())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        options.register_custom_ops_library(library)
        options.register_custom_ops_library(library)
    except Exception as error:
        wanted = f"onnxnorm needs ONNX Runtime 1.18 or later, this is {onnxruntime.__version__}"
        if version < OLDEST and wanted in str(error):
            print(f"onnxruntime {onnxruntime.__version__}: refused: {wanted}")
            return 0
        raise
    if version < OLDEST:
        sys.exit(f"onnxruntime {onnxruntime.__version__} was not refused")
    for operator in OPERATORS:
        for element in ELEMENTS:
            check(operator, element, options)
    check_optimized(options)
    check_refusal(options)
    counts = f"{len(OPERATORS)} operators right in {len(ELEMENTS)} types, and the optimized form"
    print(f"onnxruntime {onnxruntime.__version__}: {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
