"""The library inside ONNX Runtime: registration, shapes, buffers, threads and errors."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxnorm
from onnxnorm.opset import DOMAIN, OPERATORS
from tests.custom_ops.levels import LEVELS, ON_ARM
from tests.custom_ops.nodes import (
    ALL_INPUTS,
    ELEMENT_TYPES,
    INPUTS,
    model,
    reference,
    run,
    session,
    wrap,
)

GROUP, INSTANCE, LAYER = "GroupNormalization", "InstanceNormalization", "LayerNormalization"
ATTRIBUTES: dict[str, dict[str, Any]] = {
    GROUP: {"axis": 1, "num_groups": 2},
    INSTANCE: {"axis": 1},
    LAYER: {"axes": [-1]},
    "RMSNormalization": {"axes": [-1]},
    "FilterResponseNormalization": {"axes": [1, 2]},
    "UnitNormalization": {"axes": [-1]},
}


def feeds(shape: tuple[int, ...], channels: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "X": rng.standard_normal(shape).astype(np.float32),
        "scale": rng.standard_normal(channels).astype(np.float32),
        "bias": rng.standard_normal(channels).astype(np.float32),
    }


def chain(
    shape: tuple[Any, ...], length: int, ends: tuple[str, str | None] = ("T", None)
) -> onnx.ModelProto:
    """Add 1 -> norm -> ... -> norm -> Add 1, where only the ends need buffers of their own.

    The ends are a norm's X and residual: T, what came before, or X, the input of the model.
    """
    one = helper.make_tensor("one", TensorProto.FLOAT, (), [1.0])
    nodes = [helper.make_node("Add", ["X", "one"], ["T0"], name="first")]
    for i in range(length):
        x, residual = (f"T{i}" if end == "T" else end for end in ends)
        inputs = [x, "scale", "bias", *([residual] if residual else [])]
        nodes.append(
            helper.make_node(
                GROUP, inputs, [f"T{i + 1}"], name=f"norm{i}", domain=DOMAIN, num_groups=2
            )
        )
    nodes.append(helper.make_node("Add", [f"T{length}", "one"], ["Y"], name="last"))
    shapes = (shape, (4,), (4,))
    inputs_info = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, s)
        for name, s in zip(INPUTS, shapes, strict=True)
    ]
    output = helper.make_tensor_value_info("Y", TensorProto.FLOAT, shape)
    return wrap(helper.make_graph(nodes, "chain", inputs_info, [output], [one]))


@pytest.mark.parametrize("shape", [("batch", 4, "height", 9), (2, 4, 3)])
def test_shapes_are_inferred_with_symbolic_dimensions(shape: tuple[Any, ...]) -> None:
    proto = chain(shape, 2)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    assert session(proto).get_outputs()[0].shape == list(shape)


@pytest.mark.parametrize("element", ELEMENT_TYPES)
def test_the_output_type_is_that_of_the_input(element: str) -> None:
    proto = model(GROUP, ((2, 4, 3), (4,), (4,)), element, num_groups=2)
    if element != "bfloat16":
        del proto.graph.output[0].type.tensor_type.shape.dim[:]
        session(proto)
        proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
        with pytest.raises(Exception, match=r"(?i)type"):
            session(proto)
    else:
        session(proto)


IN_PLACE = """
import re, sys
import numpy as np, onnxruntime, onnxnorm

def memory(field):
    status = open("/proc/self/status").read()
    return int(re.search(field + r":\\s+(\\d+) kB", status).group(1)) * 1024

options = onnxruntime.SessionOptions()
options.enable_cpu_mem_arena = False
onnxnorm.register(options)
runner = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feeds = {"X": np.ones((8, 4, 1024, 512), np.float32),
         "scale": np.ones(4, np.float32), "bias": np.ones(4, np.float32)}
before = memory("VmRSS")
runner.run(None, feeds)
print((memory("VmHWM") - before) / feeds["X"].nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("shape", [("batch", 4, "height", "width"), (8, 4, 1024, 512)])
@pytest.mark.parametrize("ends", [("T", None), ("T", "X"), ("X", "T")])
def test_norms_run_in_place(
    tmp_path: Path, shape: tuple[Any, ...], ends: tuple[str, str | None]
) -> None:
    """One buffer of 64 MB serves the whole chain, where a norm of its own would need a second."""
    proto = chain(shape, 3, ends)
    proto.graph.node[-1].CopyFrom(helper.make_node("ReduceMax", ["T3"], ["Y"], keepdims=0))
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    path = tmp_path / "chain.onnx"
    onnx.save(proto, path)
    done = subprocess.run(
        [sys.executable, "-c", IN_PLACE, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 0.9 < float(done.stdout) < 1.5


@pytest.mark.parametrize("ends", [("T", "X"), ("X", "T")])
@pytest.mark.parametrize("broadcast", [False, True])
def test_chains_with_residuals(ends: tuple[str, str], broadcast: bool) -> None:
    """Buffers that are used again hold nothing that is still read, also where Y is larger."""
    inputs = feeds((1 if broadcast else 3, 4, 70, 90), 4)
    proto = chain(("n", 4, "h", "w"), 2, ends)
    one = np.ones((3, 1, 1, 1) if broadcast else (), np.float32)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(one, "one"))
    expected = inputs["X"] + one
    for _ in range(2):
        x, residual = (expected if end == "T" else inputs["X"] for end in ends)
        parameters = inputs["scale"], inputs["bias"]
        expected = reference(GROUP, x, *parameters, residual, num_groups=2).astype(np.float32)
    (y,) = session(proto).run(None, inputs)
    np.testing.assert_allclose(y, expected + one, rtol=1e-4, atol=1e-4)


#: Shapes of X and the residual, and that of Y; None where nothing can be said.
SUMS: list[tuple[Any, Any, Any]] = [
    (("n", 4, "w"), ("n", 4, "w"), ["n", 4, "w"]),
    (("n", 4, "w"), (1, 1, "w"), ["n", 4, "w"]),
    (("n", 4, "w"), ("w",), ["n", 4, "w"]),
    ((4, "w"), ("n", 4, "w"), ["n", 4, "w"]),
    ((1, 4, 1), ("n", 4, "w"), ["n", 4, "w"]),
    (("n", 4, 5), ("n", 4, "w"), ["n", 4, 5]),
    (("n", 4, "w"), ("n", 4, 5), ["n", 4, 5]),
    (("n", 4, "w"), ("m", 4, "w"), ["unknown", 4, "w"]),
    (("n", 4, "w"), None, None),
    (("n", 4, "w"), (), None),
]


@pytest.mark.parametrize(("x", "residual", "y"), SUMS)
def test_shapes_are_inferred_from_both(x: Any, residual: Any, y: Any) -> None:
    inferred = session(model(LAYER, (x, (1,), (1,), residual))).get_outputs()[0].shape
    assert [d if y and d in y else "unknown" for d in inferred] == (y or [])


def test_unknown_unnamed_dimensions_do_not_look_equal() -> None:
    """Two norms of different sizes behind shapes that nobody knows must not share a buffer."""
    one = helper.make_tensor("one", TensorProto.FLOAT, (), [1.0])
    nodes, outputs, infos = [], [], []
    for name in ("A", "B"):
        infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4, None]))
        outputs.append(helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None))
    previous = "one"
    for name in ("A", "B"):
        nodes += [
            helper.make_node("Add", [name, previous], [f"{name}1"]),
            helper.make_node(
                GROUP, [f"{name}1", "s", "s"], [f"{name}2"], domain=DOMAIN, num_groups=2
            ),
            helper.make_node("Neg", [f"{name}2"], [f"{name}3"]),
            helper.make_node(
                GROUP, [f"{name}3", "s", "s"], [f"{name}4"], domain=DOMAIN, num_groups=2
            ),
            helper.make_node("ReduceMax", [f"{name}4"], [f"{name}_out"], keepdims=0),
        ]
        previous = f"{name}_out"
    scale = helper.make_tensor("s", TensorProto.FLOAT, (4,), [1.0] * 4)
    runner = session(wrap(helper.make_graph(nodes, "two", infos, outputs, [one, scale])))
    rng = np.random.default_rng(0)
    for a, b in ((2, 50), (50, 2)):
        arrays = [rng.standard_normal((n, 4, n)).astype(np.float32) for n in (a, b)]
        assert all(np.isfinite(runner.run(None, dict(zip("AB", arrays, strict=True)))))


def test_unknown_rank() -> None:
    y = session(model(GROUP, (None, (4,), (4,)), num_groups=2)).run(None, feeds((2, 4, 5), 4))[0]
    assert y.shape == (2, 4, 5)


@pytest.mark.parametrize(
    ("output", "stage"),
    [("X", None), ("X", "output"), ("X", "input"), ("residual", "output"), ("residual", "input")],
)
def test_output_may_be_an_input_buffer(output: str, stage: str | None) -> None:
    """I/O binding onto one array: the kernels only rely on what they have read so far."""
    for shape, axis in (((2, 6, 90, 91), 1), ((2, 90, 91, 6), 3), ((1, 500, 600, 6), 3)):
        inputs = feeds(shape, 6)
        attributes: dict[str, Any] = {"num_groups": 3, "axis": axis}
        if stage:
            inputs["residual"] = feeds(shape, 6, seed=1)["X"]
            attributes |= {"residual_stage": stage, "activation": "Tanh"}
        runner = session(model(GROUP, tuple(v.shape for v in inputs.values()), **attributes))
        expected = runner.run(None, inputs)[0]
        binding = runner.io_binding()
        for name, value in inputs.items():
            binding.bind_input(name, "cpu", 0, value.dtype, value.shape, value.ctypes.data)
        y = inputs[output]
        binding.bind_output("Y", "cpu", 0, y.dtype, y.shape, y.ctypes.data)
        runner.run_with_iobinding(binding)
        np.testing.assert_array_equal(y, expected)


def test_registering_again_changes_nothing() -> None:
    options = onnxruntime.SessionOptions()
    for _ in range(3):
        options.register_custom_ops_library(str(onnxnorm.library_path()))
    proto = model(GROUP, ((2, 4, 3), (4,), (4,)), num_groups=2).SerializeToString()
    for _ in range(2):
        runner = onnxruntime.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
        runner.run(None, feeds((2, 4, 3), 4))


def test_the_kernel_wins_over_a_function_body_of_the_same_name() -> None:
    proto = model(GROUP, ((2, 4, 3), (4,), (4,)), num_groups=2)
    inputs = feeds((2, 4, 3), 4)
    function = helper.make_function(
        DOMAIN, GROUP, [*INPUTS], ["Y"], [helper.make_node("Neg", ["X"], ["Y"])],
        [helper.make_opsetid("", 17)], ["num_groups"],
    )  # fmt: skip
    proto.functions.append(function)
    expected = reference(GROUP, *inputs.values(), num_groups=2)
    np.testing.assert_allclose(session(proto).run(None, inputs)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_kernels_do_not_see_names_of_no_attribute(operator: str) -> None:
    """ONNX Runtime lists them to no kernel: onnxnorm.opset.checks refuses them."""
    inputs = feeds((2, 4, 4), 4)
    attributes = ATTRIBUTES[operator]
    y = run(operator, *inputs.values(), **attributes)
    z = run(operator, *inputs.values(), **attributes, stash_type=1, some_name="x")
    np.testing.assert_array_equal(y, z)


#: operator, shapes of X, scale and bias, attributes, and what the message must say.
WRONG: dict[str, tuple[str, tuple[tuple[int, ...], ...], dict[str, Any], list[str]]] = {
    "indivisible": (GROUP, ((2, 10), (10,), (10,)), {"num_groups": 3}, ["num_groups is 3", "10"]),
    "no groups": (GROUP, ((2, 10, 3), (10,), (10,)), {}, ["num_groups", "missing"]),
    "zero groups": (GROUP, ((2, 10), (10,), (10,)), {"num_groups": 0}, ["num_groups is 0"]),
    "negative groups": (GROUP, ((2, 10), (10,), (10,)), {"num_groups": -1}, ["num_groups is -1"]),
    "rank 1": (INSTANCE, ((4,), (4,), (4,)), {}, ["[4]", "rank 2"]),
    "axis 0": (INSTANCE, ((2, 4), (2,), (2,)), {"axis": 0}, ["axis is 0", "[2, 4]", "1 to 1"]),
    "axis -2": (INSTANCE, ((2, 4), (2,), (2,)), {"axis": -2}, ["axis is -2", "[2, 4]"]),
    "axis too large": (INSTANCE, ((2, 4, 5), (4,), (4,)), {"axis": 3}, ["axis is 3", "[2, 4, 5]"]),
    "scale": (GROUP, ((2, 4, 3), (3,), (4,)), {"num_groups": 2}, ["scale", "[3]", "[4]"]),
    "scale rank": (GROUP, ((2, 4, 3), (1, 4), (4,)), {"num_groups": 2}, ["scale", "[1, 4]"]),
    "bias": (INSTANCE, ((2, 4, 3), (4,), (5,)), {}, ["bias", "[5]", "[4]"]),
    "layer scale": (LAYER, ((2, 4, 3), (4,), (3,)), {}, ["scale", "[4]", "[2, 4, 3]"]),
    "layer bias rank": (LAYER, ((4, 3), (3,), (1, 1, 3)), {}, ["bias", "[1, 1, 3]"]),
    "axes": (LAYER, ((2, 4), (4,), (4,)), {"axes": [2]}, ["axes is [2]", "-2 to 1"]),
    "twice": (LAYER, ((2, 4), (4,), (4,)), {"axes": [1, -1]}, ["axes is [1, -1]", "twice"]),
    "epsilon": (LAYER, ((2, 4), (4,), (4,)), {"epsilon": -1.0}, ["epsilon is -1"]),
    "epsilon nan": (LAYER, ((2, 4), (4,), (4,)), {"epsilon": float("nan")}, ["epsilon is nan"]),
    "activation": (LAYER, ((2, 4), (4,), (4,)), {"activation": "Foo"}, ["'Foo'", "Relu, Clip"]),
    "params": (LAYER, ((2, 4), (4,), (4,)), {"activation": "Clip", "activation_params": [1.5]},
               ["[1.5", "Clip", "[min, max]"]),
    "params missing": (LAYER, ((2, 4), (4,), (4,)), {"activation": "Elu"}, ["[]", "[alpha]"]),
    "params nan": (LAYER, ((2, 4), (4,), (4,)),
                   {"activation": "Clip", "activation_params": [float("nan"), 1.0]},
                   ["nan", "Clip", "no NaN"]),
    "params inf": (LAYER, ((2, 4), (4,), (4,)),
                   {"activation": "Elu", "activation_params": [float("inf")]},
                   ["inf", "Elu", "finite"]),
    "params alone": (LAYER, ((2, 4), (4,), (4,)), {"activation_params": [1.0]}, ["no activation"]),
    "stage": (LAYER, ((2, 4), (4,), (4,), (4,)), {"residual_stage": "in"}, ["'in'", "input, out"]),
    "stage alone": (LAYER, ((2, 4), (4,), (4,)), {"residual_stage": "input"}, ["no residual"]),
    "residual": (LAYER, ((2, 4, 3), (3,), (3,), (5, 3)), {}, ["residual", "[5, 3]", "[2, 4, 3]"]),
    "scale of the sum": (LAYER, ((2, 1), (3,), (1,), (2, 5)), {"residual_stage": "input"},
                         ["scale", "[3]", "[2, 5]"]),
    "subtract": (LAYER, ((2, 4), (4,), (4,)), {"subtract_mean": 2}, ["subtract_mean is 2"]),
}  # fmt: skip


def message_of(failure: pytest.ExceptionInfo[BaseException]) -> str:
    return str(failure.value)


@pytest.mark.parametrize("case", WRONG)
def test_errors_name_the_node_at_session_creation(case: str) -> None:
    operator, shapes, attributes, parts = WRONG[case]
    with pytest.raises(Exception, match="norm") as failure:
        session(model(operator, shapes, **attributes))
    message = message_of(failure)
    assert f"onnxnorm.{operator} node 'norm'" in message
    assert "accepted: " in message
    assert all(part in message for part in parts), message


ATTRIBUTES_ALONE = [
    "no groups",
    "zero groups",
    "negative groups",
    "epsilon",
    "epsilon nan",
    "activation",
    "params",
    "params missing",
    "params nan",
    "params inf",
    "params alone",
    "stage",
    "stage alone",
    "subtract",
]


@pytest.mark.parametrize("case", [case for case in WRONG if case not in ATTRIBUTES_ALONE])
def test_errors_name_the_node_at_run(case: str) -> None:
    operator, shapes, attributes, parts = WRONG[case]
    runner = (
        session(model(operator, tuple((None,) * len(s) for s in shapes), **attributes))
        if (
            case
            not in (
                "rank 1",
                "axis 0",
                "axis -2",
                "axis too large",
                "scale rank",
                "axes",
                "twice",
                "layer bias rank",
            )
        )
        else session(model(operator, (None, None, None), **attributes))
    )
    with pytest.raises(Exception, match="norm") as failure:
        runner.run(
            None, {n: np.ones(s, np.float32) for n, s in zip(ALL_INPUTS, shapes, strict=False)}
        )
    message = message_of(failure)
    assert f"onnxnorm.{operator} node 'norm'" in message
    assert all(part in message for part in parts), message


def test_a_scalar_is_refused() -> None:
    runner = session(model(LAYER, (None, None, None)))
    with pytest.raises(Exception, match="X is a scalar"):
        runner.run(None, {name: np.array(1, np.float32) for name in INPUTS})


def test_an_error_leaves_the_session_usable() -> None:
    runner = session(model(GROUP, ((None,) * 3, (None,), (None,)), num_groups=2))
    with pytest.raises(Exception, match="num_groups"):
        runner.run(None, feeds((2, 5, 3), 5))
    inputs = feeds((2, 4, 3), 4)
    expected = reference(GROUP, *inputs.values(), num_groups=2)
    np.testing.assert_allclose(runner.run(None, inputs)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("index", [1, 3])
def test_types_may_not_be_mixed(index: int) -> None:
    proto = model(GROUP, ((2, 4, 3), (4,), (4,), (2, 4, 3)), num_groups=2)
    proto.graph.input[index].type.tensor_type.elem_type = TensorProto.FLOAT16
    with pytest.raises(Exception, match=r"norm|type"):
        session(proto)


def test_one_session_from_many_threads() -> None:
    runner = session(model(GROUP, ((None,) * 4, (8,), (8,)), num_groups=4))
    cases = [feeds((2, 8, 30 + i, 40), 8, seed=i) for i in range(8)]
    expected = [runner.run(None, case)[0] for case in cases]
    failures: list[int] = []

    def work(i: int) -> None:
        for _ in range(20):
            if not np.array_equal(runner.run(None, cases[i])[0], expected[i]):
                failures.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_many_sessions_at_once() -> None:
    proto = model(LAYER, ((None,) * 3, (64,), (64,)), axes=[2])
    inputs = feeds((20, 30, 64), 64)
    expected = session(proto).run(None, inputs)[0]
    failures: list[int] = []

    def work(i: int) -> None:
        for _ in range(5):
            if not np.array_equal(session(proto).run(None, inputs)[0], expected):
                failures.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize(
    ("level", "refused"), [("avx1024", True), ("neon", not ON_ARM), ("avx2", ON_ARM), ("", False)]
)
def test_an_unknown_instruction_set_is_refused(level: str, refused: bool) -> None:
    script = "import onnxruntime, onnxnorm; onnxnorm.register(onnxruntime.SessionOptions())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "ONNXNORM_ISA": level},
        capture_output=True,
        text=True,
        check=False,
    )
    accepted = ", ".join(reversed(LEVELS))
    message = f"ONNXNORM_ISA={level} is unknown; accepted: {accepted}"
    assert (done.returncode != 0, message in done.stderr) == (refused, refused)


def test_only_the_entry_points_are_exported() -> None:
    if sys.platform != "linux":
        pytest.skip("reads an ELF symbol table")
    command = ["nm", "-D", "--defined-only", str(onnxnorm.library_path())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("no nm here")
    exported = {line.split()[-1] for line in done.stdout.splitlines()}
    assert exported == {"RegisterCustomOps", "OnnxnormInstructionSet"}
