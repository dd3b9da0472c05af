"""Kernel, function body in two interpreters and native lowering: the four agree with the oracle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxnorm.graph import native
from onnxnorm.opset import OPERATORS, function
from tests.custom_ops.nodes import Array, assert_close, model, reference, session, stored

#: RMSNormalization is a standard operator from 23 on.
NEWEST = min(onnx.defs.onnx_opset_version(), 23)
ELEMENTS = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True)
class Case:
    """One node and its inputs."""

    operator: str
    shape: tuple[int, ...]
    parameter_shape: tuple[int, ...]
    attributes: tuple[tuple[str, Any], ...]
    element: str = "float32"
    mean: float = 0.0
    static: bool = True
    opset: int = 18

    def values(self) -> tuple[Array, Array, Array]:
        rng = np.random.default_rng(math.prod(self.shape) + len(self.shape))
        x = rng.normal(size=self.shape) + self.mean
        scale = rng.normal(size=self.parameter_shape) + 0.5
        bias = rng.normal(size=self.parameter_shape)
        return tuple(stored(v, self.element) for v in (x, scale, bias))  # type: ignore[return-value]

    def all_attributes(self) -> dict[str, Any]:
        defaults = {k: v for k, v in OPERATORS[self.operator].attributes.items() if v is not None}
        given = {k: list(v) if isinstance(v, tuple) else v for k, v in self.attributes}
        stash = 11 if self.element == "float64" else 1
        return {**defaults, **given, "stash_type": stash}

    def proto(self) -> onnx.ModelProto:
        x_shape: tuple[int | None, ...] = self.shape
        if not self.static:
            # The channel axis keeps its size, as every framework's does.
            axis = dict(self.attributes).get("axis", -1) % len(self.shape)
            x_shape = tuple(d if i == axis else None for i, d in enumerate(self.shape))
        shapes = (x_shape, self.parameter_shape, self.parameter_shape)
        proto = model(self.operator, shapes, self.element, **self.all_attributes())
        next(o for o in proto.opset_import if not o.domain).version = self.opset
        proto.ir_version = 9
        proto.functions.append(function(OPERATORS[self.operator], self.opset))
        return proto


def by_kernel(case: Case) -> Array:
    return _run(session(case.proto()), case)


def by_body(case: Case) -> Array:
    return _run(_plain_session(case.proto()), case)


def by_body_in_reference(case: Case) -> Array:
    inputs = dict(zip(("X", "scale", "bias"), case.values(), strict=True))
    (y,) = ReferenceEvaluator(case.proto()).run(None, inputs)
    return np.asarray(y)


def by_native_lowering(case: Case) -> Array:
    lowered = native.lower(case.proto())
    onnx.checker.check_model(lowered, full_check=True)
    assert not lowered.functions
    assert {node.domain for node in lowered.graph.node} == {""}
    return _run(_plain_session(lowered), case)


WAYS = {way.__name__: way for way in (by_kernel, by_body, by_body_in_reference, by_native_lowering)}


def _plain_session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _run(runner: onnxruntime.InferenceSession, case: Case) -> Array:
    inputs = dict(zip(("X", "scale", "bias"), case.values(), strict=True))
    result: Array = runner.run(None, inputs)[0]
    return result


# onnx.reference cuts bfloat16 off where every runtime rounds, so it is no judge of it.
ELEMENTS_OF = dict.fromkeys(WAYS, ELEMENTS) | {
    by_body_in_reference.__name__: tuple(e for e in ELEMENTS if e != "bfloat16")
}


def check(way: str, case: Case) -> None:
    y = WAYS[way](case)
    x, scale, bias = case.values()
    attributes = case.all_attributes()
    if way == by_native_lowering.__name__:
        # ONNX Runtime's InstanceNormalization computes x·a + (b - mean·a) with a up to
        # scale / sqrt(epsilon): what cancels there is lost.
        expected = reference(case.operator, x, scale, bias, **attributes)
        gain = np.abs(scale).max() / attributes["epsilon"] ** 0.5
        lost = 2.0**-22 * np.abs(x).max(initial=0.0) * gain
        y = expected + np.sign(y - expected) * np.maximum(np.abs(y - expected) - lost, 0)
    assert_close(case.operator, y, x, scale, bias, case.element, **attributes)


@st.composite
def cases(draw: st.DrawFn, elements: tuple[str, ...]) -> Case:
    operator = draw(st.sampled_from(sorted(OPERATORS)))
    rank = draw(st.integers(2, 5))
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=rank, max_size=rank)))
    epsilon = ("epsilon", draw(st.sampled_from([1e-5, 1e-3, 0.1])))
    attributes: list[tuple[str, Any]] = [epsilon]
    if "axes" in OPERATORS[operator].attributes:
        axes = draw(st.sets(st.integers(0, rank - 1), min_size=1))
        parameter_shape = tuple(d if i in axes else 1 for i, d in enumerate(shape))[min(axes) :]
        signed = [a - rank if draw(st.booleans()) else a for a in sorted(axes)]
        attributes.append(("axes", tuple(signed)))
        if operator == "LayerNormalization":
            attributes.append(("subtract_mean", draw(st.integers(0, 1))))
    else:
        axis = draw(st.integers(1, rank - 1))
        groups = draw(st.integers(1, 3))
        if operator == "GroupNormalization":
            shape = (*shape[:axis], shape[axis] * groups, *shape[axis + 1 :])
            attributes.append(("num_groups", groups))
        parameter_shape = (shape[axis],)
        attributes.append(("axis", axis - rank if draw(st.booleans()) else axis))
    return Case(
        operator,
        shape,
        parameter_shape,
        tuple(attributes),
        element=draw(st.sampled_from(elements)),
        mean=draw(st.sampled_from([0.0, 1.0, 10.0])),
        static=draw(st.booleans()),
        opset=draw(st.sampled_from([15, 17, 18, NEWEST])),
    )


@pytest.mark.parametrize("way", WAYS)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=st.data())
def test_random_configurations(way: str, data: st.DataObject) -> None:
    check(way, data.draw(cases(ELEMENTS_OF[way])))


def group(
    shape: tuple[int, ...], axis: int, groups: int, epsilon: float = 1e-3, **options: Any
) -> Case:
    attributes = (("axis", axis), ("num_groups", groups), ("epsilon", epsilon))
    return Case("GroupNormalization", shape, (shape[axis],), attributes, **options)


def instance(shape: tuple[int, ...], axis: int, epsilon: float = 1e-3, **options: Any) -> Case:
    attributes = (("axis", axis), ("epsilon", epsilon))
    return Case("InstanceNormalization", shape, (shape[axis],), attributes, **options)


def layer(
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    parameters: tuple[int, ...],
    operator: str = "LayerNormalization",
    epsilon: float = 1e-3,
    **options: Any,
) -> Case:
    return Case(operator, shape, parameters, (("axes", axes), ("epsilon", epsilon)), **options)


EDGES = {
    "empty batch": group((0, 4, 5, 5), 1, 2),
    "empty batch, unknown sizes": group((0, 4, 5, 5), 1, 2, static=False),
    "empty batch, channels last": instance((0, 5, 5, 4), -1),
    "empty batch, layer": layer((0, 7), (1,), (7,)),
    "one element to a group": instance((2, 3), 1),
    "one group": group((2, 6, 3), 1, 1),
    "one channel": group((2, 1, 3), 1, 1),
    "every channel a group": group((2, 6, 3), 1, 6),
    "rank 5, channels last": group((2, 3, 4, 2, 6), 4, 3),
    "separated axes": layer((3, 4, 5, 6), (1, 3), (4, 1, 6)),
    "layer of one number": layer((3, 1), (1,), (1,)),
    "layer of one number, float16": layer((3, 1, 1), (1, 2), (1, 1), element="float16", mean=10.0),
    "layer of one number, scalar parameters": layer((3, 4, 1, 1), (2, 3), (1,)),
    "scalar parameters": layer((3, 4, 5), (2,), (1,)),
    "all axes": layer((3, 4), (0, 1), (3, 4)),
    "parameters over other axes": layer((2, 3, 4, 5), (1, 3), (4, 1)),
    "empty batch, unit": layer((0, 7), (1,), (1,), "UnitNormalization"),
    "rms of nothing but epsilon": layer((2, 3), (1,), (3,), "RMSNormalization", 1e6),
    "rms of one number": layer((3, 1), (1,), (1,), "RMSNormalization"),
    "rms of one number, newest": layer((3, 1), (1,), (1,), "RMSNormalization", opset=NEWEST),
    "rms, float64": layer((3, 4), (1,), (4,), "RMSNormalization", 1e-3, element="float64"),
    "rms, the standard operator": layer(
        (2, 4, 6), (1, 2), (4, 1), "RMSNormalization", opset=NEWEST
    ),
    "filter response of one pixel": layer(
        (2, 1, 1, 4), (1, 2), (1, 1, 4), "FilterResponseNormalization"
    ),
    "unit length of one number": layer((3, 1), (1,), (1,), "UnitNormalization", 1e-12),
    "rms, large float16": layer(
        (2, 64), (1,), (64,), "RMSNormalization", element="float16", mean=6e4
    ),
    "large float16": group((1, 4, 8, 8), 1, 2, element="float16", mean=60000.0),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", EDGES)
def test_edges(way: str, name: str) -> None:
    check(way, EDGES[name])


@pytest.mark.parametrize("way", ["by_kernel", "by_body", "by_body_in_reference"])
@pytest.mark.parametrize("mean", [1e2, 1e3, 1e4])
@pytest.mark.parametrize(
    "case",
    [
        group((2, 8, 32, 32), 1, 2),
        instance((2, 32, 32, 8), -1),
        layer((64, 768), (1,), (768,)),
        layer((64, 768), (1,), (768,), "RMSNormalization"),
        layer((2, 32, 32, 8), (1, 2), (1, 1, 8), "FilterResponseNormalization"),
        layer((64, 768), (1,), (1,), "UnitNormalization"),
    ],
    ids=["group", "instance", "layer", "rms", "filter response", "unit"],
)
def test_large_mean(way: str, mean: float, case: Case) -> None:
    """The inputs' own spacing at 1e4 is 1e-3 of their deviation: results stay within 1e-5."""
    x, scale, bias = case.values()
    moved = (x + np.float32(mean)).astype(np.float32)
    runner = session if way == "by_kernel" else _plain_session
    inputs = {"X": moved, "scale": scale, "bias": bias}
    if way == "by_body_in_reference":
        (y,) = ReferenceEvaluator(case.proto()).run(None, inputs)
    else:
        (y,) = runner(case.proto()).run(None, inputs)
    expected = OPERATORS[case.operator].reference(moved, scale, bias, **case.all_attributes())
    assert np.abs(y - expected).max() < 1e-5 * (np.abs(scale).max() + np.abs(bias).max())


NEUTRAL = {
    "group": (group((2, 6, 4, 4), 1, 2), "Reshape InstanceNormalization Reshape"),
    "group, channels last": (
        group((2, 4, 6), 2, 2),
        "Reshape ReduceMean ReduceMean Sub Mul ReduceMean ReduceMean Add Sqrt Div Reshape",
    ),
    "layer": (layer((3, 4, 5), (2,), (1,)), "LayerNormalization"),
    "layer of one number": (
        layer((3, 1), (1,), (1,)),
        "ReduceMean Sub Mul ReduceMean Add Sqrt Div",
    ),
    "rms of one number": (
        layer((3, 1), (1,), (1,), "RMSNormalization", opset=NEWEST),
        "Mul ReduceMean Add Sqrt Div Mul",
    ),
    "rms": (
        layer((3, 4, 5), (1,), (4, 1), "RMSNormalization"),
        "Pow ReduceMean Add Sqrt Div Mul",
    ),
    "unit": (layer((3, 4), (1,), (1,), "UnitNormalization"), "Mul ReduceSum Max Sqrt Div"),
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_native_form_leaves_out_what_changes_nothing(name: str) -> None:
    case, expected = NEUTRAL[name]
    x, scale, bias = case.values()
    scale, bias = np.ones_like(scale), np.zeros_like(bias)
    proto = case.proto()
    del proto.graph.input[1:]
    proto.graph.initializer.extend(
        numpy_helper.from_array(v, k) for k, v in {"scale": scale, "bias": bias}.items()
    )
    lowered = native.lower(proto)
    assert " ".join(node.op_type for node in lowered.graph.node) == expected
    (y,) = _plain_session(lowered).run(None, {"X": x})
    assert_close(case.operator, y, x, scale, bias, case.element, **case.all_attributes())


@pytest.mark.parametrize("operator", ["LayerNormalization", "RMSNormalization"])
def test_native_form_of_one_number_keeps_what_is_not_finite(operator: str) -> None:
    case = layer((4, 1), (1,), (1,), operator, opset=NEWEST)
    _, scale, bias = case.values()
    x = np.array([[3], [np.inf], [-np.inf], [np.nan]], np.float32)
    (y,) = _plain_session(native.lower(case.proto())).run(
        None, {"X": x, "scale": scale, "bias": bias}
    )
    expected = reference(operator, x, scale, bias, **case.all_attributes())
    np.testing.assert_allclose(y, expected, rtol=1e-6)
