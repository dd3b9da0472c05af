"""How launches are chosen, for devices that are not at hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.cuda_cases import LARGE
from tools.emulated import ELEMENTS, Launch, Machine, plan

H100 = Machine(multiprocessors=132, shared_per_block=227 << 10)
T4 = Machine(multiprocessors=40, shared_per_block=64 << 10)


def layer(rows: int, depth: int, machine: Machine = H100, element: str = "float32") -> Launch:
    return plan("LayerNormalization", ((rows, depth), (depth,), (depth,)), element, machine)


def group(
    *shape: int, groups: int = 32, machine: Machine = H100, element: str = "float32"
) -> Launch:
    channels = (shape[-1],)
    return plan(
        "GroupNormalization",
        (shape, channels, channels),
        element,
        machine,
        axis=-1,
        num_groups=groups,
    )


def test_rows_that_fit_are_read_once_in_vectors() -> None:
    launch = layer(4096, 768)
    assert (launch.method, launch.vector, launch.scratch_bytes) == ("rows_in_registers", 4, 0)
    assert layer(4096, 768, element="float16").vector == 8


def test_small_rows_share_a_block() -> None:
    launch = layer(100_000, 32)
    threads, rows = launch.block
    assert rows >= 4
    assert threads * rows >= 64
    assert launch.grid[0] == -(-100_000 // rows)


def test_one_long_row_fills_the_device() -> None:
    launch = layer(1, 10_000_000)
    assert launch.method == "rows_in_chunks"
    assert launch.grid[0] >= H100.multiprocessors


def test_one_sample_in_channels_last_fills_the_device() -> None:
    launch = group(1, 128, 128, 320)
    assert launch.method == "columns_in_chunks"
    assert launch.grid[0] * launch.grid[1] >= H100.multiprocessors


def test_a_small_image_is_read_once() -> None:
    assert group(64, 14, 14, 1024).method == "columns_in_shared"


def test_shared_memory_is_what_the_device_has() -> None:
    wide = {machine: layer(1000, 12_000, machine).method for machine in (H100, T4)}
    assert wide == {H100: "rows_in_shared", T4: "rows_in_shared"}
    wide = {machine: layer(1000, 40_000, machine).method for machine in (H100, T4)}
    assert wide == {H100: "rows_in_shared", T4: "rows_in_chunks"}


def test_columns_that_no_vector_fits() -> None:
    assert group(64, 26, 26, 10, groups=5).vector == 1
    assert group(64, 26, 26, 12, groups=4).vector == 4


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_every_launch_is_one_that_the_device_takes(data: st.DataObject) -> None:
    machine = data.draw(st.sampled_from([H100, T4, Machine(multiprocessors=1)]))
    element = data.draw(st.sampled_from(ELEMENTS))
    size = st.integers(1, 3000)
    if data.draw(st.booleans()):
        launch = layer(
            data.draw(st.integers(1, 10**6)), data.draw(size) * data.draw(size), machine, element
        )
    else:
        groups, depth = data.draw(st.integers(1, 300)), data.draw(size)
        shape = (data.draw(st.integers(1, 10**5)), data.draw(size), groups * depth)
        launch = group(*shape, groups=groups, machine=machine, element=element)
    threads = launch.block[0] * launch.block[1]
    assert threads % 32 == 0
    assert 32 <= threads <= 1024
    assert launch.shared <= machine.shared_per_block - 512  # which kernels have of their own
    assert 1 <= launch.grid[0] < 2**31
    assert all(1 <= extent <= 65535 for extent in launch.grid[1:])


@pytest.mark.parametrize("name", LARGE)
def test_cases_for_a_real_device_need_its_permission(name: str) -> None:
    case = LARGE[name]
    shapes = (case.shape, case.parameter_shape, case.parameter_shape)
    launch = plan(case.operator, shapes, machine=H100, **case.attributes)
    assert launch.method == case.method
    assert launch.shared >= 48 << 10
