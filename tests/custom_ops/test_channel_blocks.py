"""Norms of tensors whose channels are stored in blocks, as ONNX Runtime keeps convolutions."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from onnxnorm.opset.activations import ACTIVATIONS
from tests.custom_ops.levels import LEVELS, rerun_at
from tests.custom_ops.nodes import (
    ELEMENT_TYPES,
    Array,
    assert_close,
    model,
    run,
    session,
    stored,
)

GROUP, INSTANCE = "GroupNormalization", "InstanceNormalization"


def own_block() -> int:
    """The block of this CPU, told by the refusal of one that no CPU has."""
    with pytest.raises(Exception, match="channel_block") as refusal:
        session(model(INSTANCE, ((1, 6, 2), (6,), (6,)), channel_block=3))
    return int(str(refusal.value).split(" channels in a block")[0].split()[-1])


BLOCK = own_block()


def blocked(x: Array) -> Array:
    """(N, C, ...) with the elements in the order of (N, C / BLOCK, ..., BLOCK)."""
    n, c, *sizes = x.shape
    split = x.reshape(n, c // BLOCK, BLOCK, *sizes)
    return np.ascontiguousarray(np.moveaxis(split, 2, -1)).reshape(x.shape)


def unblocked(x: Array) -> Array:
    n, c, *sizes = x.shape
    return np.moveaxis(x.reshape(n, c // BLOCK, *sizes, BLOCK), -1, 2).reshape(x.shape)


def check(
    operator: str,
    shape: tuple[int, ...],
    element: str = "float32",
    residual_shape: tuple[int, ...] | None = None,
    threads: int = 2,
    mean: float = 0,
    **attributes: Any,
) -> Array:
    rng = np.random.default_rng(sum(shape))
    x = stored(rng.standard_normal(shape) + mean, element)
    scale, bias = (stored(rng.standard_normal(shape[1]), element) for _ in range(2))
    residual = None
    if residual_shape is not None:
        residual = stored(rng.standard_normal(residual_shape), element)
    attributes = {"axis": 1, "epsilon": 1e-3, **attributes}
    kept = None if residual is None else blocked(residual)
    y = run(
        operator, blocked(x), scale, bias, element, threads, kept, channel_block=BLOCK, **attributes
    )
    assert_close(operator, unblocked(y), x, scale, bias, element, residual, **attributes)
    return y


SHAPES = [
    (2, 64, 5, 7),
    (3, 128, 14, 14),
    (1, 64, 112, 113),  # segments
    (2, 2 * BLOCK, 1, 1),
    (1, BLOCK, 9, 3),
    (2, 256, 61, 67),
    (0, 64, 4, 4),
    (2, 64, 0, 3),
    (4, 32, 21),
    (2, 32, 3, 4, 5),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16, 32, 64, 128])
def test_groups(shape: tuple[int, ...], depth: int) -> None:
    if shape[1] % depth:
        pytest.skip("no whole number of groups")
    check(GROUP, shape, num_groups=shape[1] // depth)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_instances(shape: tuple[int, ...]) -> None:
    check(INSTANCE, shape)


@pytest.mark.parametrize("depth", [2, 64])
@pytest.mark.parametrize("mean", [1e2, 1e4])
def test_far_means(depth: int, mean: float) -> None:
    check(GROUP, (2, 128, 30, 31), num_groups=128 // depth, mean=mean)


@pytest.mark.parametrize("element", ELEMENT_TYPES)
@pytest.mark.parametrize("depth", [2, 32])
def test_element_types(element: str, depth: int) -> None:
    check(GROUP, (2, 64, 9, 11), element, num_groups=64 // depth)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depth", [2, 32])
@pytest.mark.parametrize("stage", [None, "output", "input"])
def test_epilogues(activation: str, depth: int, stage: str | None) -> None:
    shape = (2, 64, 7, 9)
    attributes: dict[str, Any] = {"activation": activation, "num_groups": 64 // depth}
    parameters = {"Clip": [0.0, 6.0], "Selu": [1.67, 1.05]}
    one = ["LeakyRelu", "Elu", "Swish"]
    if activation in parameters or activation in one:
        attributes["activation_params"] = parameters.get(activation, [0.5])
    if stage is not None:
        attributes["residual_stage"] = stage
    check(GROUP, shape, residual_shape=None if stage is None else shape, **attributes)


@pytest.mark.parametrize("residual_shape", [(1, 64, 7, 9), (2, 64, 1, 1), (2, 64, 7, 1)], ids=str)
def test_residuals_that_broadcast(residual_shape: tuple[int, ...]) -> None:
    check(GROUP, (2, 64, 7, 9), residual_shape=residual_shape, num_groups=16)


def test_inputs_that_broadcast() -> None:
    check(GROUP, (2, 64, 1, 9), residual_shape=(2, 64, 7, 9), num_groups=16)


@pytest.mark.parametrize("depth", [2, 32])
@pytest.mark.parametrize("shape", [(2, 64, 113, 112), (5, 512, 7, 7)])
def test_results_are_those_of_any_number_of_threads(depth: int, shape: tuple[int, ...]) -> None:
    groups = shape[1] // depth
    one, two = (check(GROUP, shape, threads=threads, num_groups=groups) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("level", LEVELS)
def test_levels(level: str) -> None:
    rerun_at(level, __file__, "groups or instances or far_means or epilogues")


def refusal(
    *shapes: tuple[int, ...], channel_block: int = BLOCK, operator: str = GROUP, **attributes: Any
) -> str:
    if operator == GROUP:
        attributes = {"num_groups": 4, **attributes}
    with pytest.raises(Exception, match="node 'norm'") as error:
        session(model(operator, shapes, channel_block=channel_block, **attributes))
    return str(error.value).split("node 'norm': ")[1].strip()


def test_the_block_of_another_cpu_is_refused() -> None:
    other = 24 - BLOCK
    told = refusal((1, 64, 4, 4), (64,), (64,), channel_block=other)
    assert told == (
        f"channel_block is {other}, but ONNX Runtime keeps {BLOCK} channels in a block on this "
        "CPU: the model was optimized for another kind of CPU; make the file anew here with "
        "'onnxnorm optimize --this-cpu'"
    )


@pytest.mark.parametrize(
    ("shapes", "attributes", "message"),
    [
        (
            ((1, 60, 4), (60,), (60,)),
            {},
            r"for 60 channels in groups of 15 \(axis 1 .*\[1, 60, 4\]",
        ),
        (((1, 192, 4), (192,), (192,)), {"num_groups": 16}, "192 channels in groups of 12"),
        (((1, 4, 64), (64,), (64,)), {"axis": 2}, "and axis 2; accepted: 1 or more, with axis 1"),
        (((1, 64, 4), (64,), (64,), (64, 4)), {}, "residual has shape .*the rank and the channels"),
        (((1, 64, 4), (64,), (64,), (1, 1, 4)), {}, "residual has shape .*the rank and the chan"),
    ],
)
def test_geometry_that_has_no_blocks(shapes: Any, attributes: dict[str, Any], message: str) -> None:
    assert re.search(message, refusal(*shapes, **attributes))
