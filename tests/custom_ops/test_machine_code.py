"""What nvcc made of the CUDA kernels, where the CUDA library was built and cuobjdump is there."""

from __future__ import annotations

import re
from functools import cache

import pytest

from onnxnorm import runtime
from tools import machine_code
from tools.machine_code import Kernel

pytestmark = [
    pytest.mark.skipif(not runtime.has_cuda_library(), reason="built without nvcc"),
    pytest.mark.skipif(machine_code.cuobjdump() is None, reason="no cuobjdump"),
]

REGISTERS_OF_A_BLOCK = 65536
#: Threads that each kernel's launch bounds promise, as plan.h has them.
THREADS = {
    "rows_in_registers": 512,
    "rows_in_shared": 512,
    "row_chunk_moments": 256,
    "normalize_row_chunk": 256,
    "columns_in_shared": 256,
    "column_chunk_moments": 256,
    "normalize_column_chunk": 256,
    "normalize_strided": 256,
    "expand": 256,
}
VECTOR = {"float32": 4, "float16": 8, "bfloat16": 8, "float64": 2}
ARCHITECTURE = 80


@cache
def kernels() -> tuple[Kernel, ...]:
    return machine_code.kernels(runtime.library_path("cuda"))


@cache
def code() -> dict[tuple[str, str, int, int], str]:
    return machine_code.instructions(runtime.library_path("cuda"), ARCHITECTURE)


def stores(text: str) -> set[str]:
    return set(re.findall(r"\bSTG\.E(?:\.\w+)*", text))


def loads(text: str) -> set[str]:
    return set(re.findall(r"\bLDG\.E(?:\.\w+)*", text))


def test_every_kernel_is_there_for_every_architecture() -> None:
    architectures = {kernel.architecture for kernel in kernels()}
    assert ARCHITECTURE in architectures
    for architecture in architectures:
        found = {(k.name, k.element) for k in kernels() if k.architecture == architecture}
        assert found == {(name, element) for name in THREADS for element in VECTOR}


def test_no_register_is_spilled() -> None:
    # Double precision division is a subroutine with a frame of its own.
    assert [k for k in kernels() if k.stack and k.element != "float64"] == []


def test_registers_allow_the_launch() -> None:
    too_many = [k for k in kernels() if k.registers * THREADS[k.name] > REGISTERS_OF_A_BLOCK]
    assert too_many == []


@pytest.mark.parametrize("element", VECTOR)
def test_tensors_are_written_in_whole_vectors(element: str) -> None:
    for (name, stored, vector, _), text in code().items():
        if stored == element and vector == VECTOR[element] and "moments" not in name:
            assert stores(text) == {"STG.E.128"}, name


@pytest.mark.parametrize("element", VECTOR)
def test_tensors_are_read_in_whole_vectors(element: str) -> None:
    for (name, stored, vector, _), text in code().items():
        if stored == element and vector == VECTOR[element]:
            assert any(load.startswith("LDG.E.128") for load in loads(text)), name


def test_float32_kernels_do_no_arithmetic_in_double() -> None:
    for (name, element, *_), text in code().items():
        if element != "float64":
            assert not re.search(
                r"\b(DADD|DMUL|DFMA|DSETP|MUFU\.\w+64H|F2F\.F\d+\.F\d+)\b", text
            ), name
