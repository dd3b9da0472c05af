"""The tables of docs/cuda.md: ``python -m tools.cuda_table LIBRARY`` prints them.

What the kernels need, read from the CUDA library with cuobjdump; how many of their threads a
multiprocessor holds, by calculation; and the time that the bytes they move predict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tools import machine_code
from tools.emulated import Launch, Machine, plan
from tools.machine_code import Kernel

_REGISTERS = 65536
_REGISTER_UNIT = 256  # registers are given to warps in steps of this many


@dataclass(frozen=True)
class Architecture:
    """What a multiprocessor of a compute capability holds, as NVIDIA's programming guide has it."""

    capability: int
    threads: int
    blocks: int


ARCHITECTURES = (
    Architecture(75, 1024, 16),
    Architecture(80, 2048, 32),
    Architecture(86, 1536, 16),
    Architecture(89, 1536, 24),
    Architecture(90, 2048, 32),
    Architecture(100, 2048, 32),
    Architecture(120, 1536, 24),
)


@dataclass(frozen=True)
class Gpu:
    """A device, with its nominal memory bandwidth in bytes a second."""

    name: str
    bandwidth: float
    machine: Machine


GPUS = (
    Gpu("A100 80 GB", 2.039e12, Machine(multiprocessors=108, shared_per_block=163 << 10)),
    Gpu("H100 SXM", 3.35e12, Machine(multiprocessors=132, shared_per_block=227 << 10)),
    Gpu("L4", 0.3e12, Machine(multiprocessors=58, shared_per_block=99 << 10)),
)

# Threads of a block. Kernels for rows take fewer where rows are short.
_THREADS = {"rows_in_registers": 512, "rows_in_shared": 512}
_THREADS_OF_OTHERS = 256

# One reading and one writing are the least; what is cut into chunks is read twice.
_PASSES = {
    "rows_in_registers": 2,
    "rows_in_shared": 2,
    "columns_in_shared": 2,
    "rows_in_chunks": 3,
    "columns_in_chunks": 3,
}


@dataclass(frozen=True)
class Shape:
    """A layer of the kind that networks have."""

    name: str
    operator: str
    shape: tuple[int, ...]
    axis: int = -1
    groups: int = 0

    def launch(self, machine: Machine) -> Launch:
        channels = (self.shape[self.axis],)
        attributes = {"num_groups": self.groups} if self.groups else {}
        if self.operator != "LayerNormalization":
            attributes["axis"] = self.axis
        return plan(self.operator, (self.shape, channels, channels), machine=machine, **attributes)


SHAPES = (
    Shape("GN 8×56×56×256 g32", "GroupNormalization", (8, 56, 56, 256), -1, 32),
    Shape("GN 8×256×56×56 g32", "GroupNormalization", (8, 256, 56, 56), 1, 32),
    Shape("GN 2×64×64×320 g32", "GroupNormalization", (2, 64, 64, 320), -1, 32),
    Shape("GN 1×14×14×1024 g32", "GroupNormalization", (1, 14, 14, 1024), -1, 32),
    Shape("GN 64×26×26×10 g5", "GroupNormalization", (64, 26, 26, 10), -1, 5),
    Shape("IN 1×256×256×32", "InstanceNormalization", (1, 256, 256, 32)),
    Shape("IN 4×64×128×128", "InstanceNormalization", (4, 64, 128, 128), 1),
    Shape("LN 8×512×768", "LayerNormalization", (8, 512, 768)),
    Shape("LN 8×56×56×96", "LayerNormalization", (8, 56, 56, 96)),
)


def occupancy(kernel: Kernel, architecture: Architecture) -> float:
    """The part of a multiprocessor's threads that its registers and blocks let be resident."""
    threads = _THREADS.get(kernel.name, _THREADS_OF_OTHERS)
    warps = threads // 32
    of_a_warp = -(-kernel.registers * 32 // _REGISTER_UNIT) * _REGISTER_UNIT
    blocks = min(
        _REGISTERS // (of_a_warp * warps), architecture.threads // threads, architecture.blocks
    )
    return blocks * threads / architecture.threads


def kernel_rows(kernels: Sequence[Kernel]) -> Iterator[tuple[str, ...]]:
    """A row for each kernel of float32 and float16 that works in whole vectors."""
    for first in kernels:
        vectors = {"float32": 4, "float16": 8}.get(first.element)
        if first.vector != vectors or first.architecture != ARCHITECTURES[1].capability:
            continue
        same = {
            k.architecture: k
            for k in kernels
            if (k.name, k.element, k.vector, k.items)
            == (first.name, first.element, first.vector, first.items)
        }
        cells = (
            f"{same[a.capability].registers} / {occupancy(same[a.capability], a):.0%}"
            if a.capability in same
            else "-"
            for a in ARCHITECTURES
        )
        name = f"`{first.name}`" + (f", {first.items} vectors" if first.items else "")
        yield (name, first.element, str(first.shared), *cells)


def shape_rows() -> Iterator[tuple[str, ...]]:
    """A row for each layer: how it is launched, what it moves, and the time that predicts."""
    for shape in SHAPES:
        launches = [shape.launch(gpu.machine) for gpu in GPUS]
        elements = 1
        for extent in shape.shape:
            elements *= extent
        cells = []
        for gpu, launch in zip(GPUS, launches, strict=True):
            moved = _PASSES[launch.method] * elements * 4 + 2 * launch.scratch_bytes
            cells.append(f"`{launch.method}` {moved / (2 * elements * 4):.2f}×")
            cells.append(f"{moved / gpu.bandwidth * 1e6:.1f}")
        yield (shape.name, f"{2 * elements * 4 / 1e6:.1f}", *cells)


def markdown(head: Sequence[str], rows: Iterator[tuple[str, ...]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(
    library: Annotated[Path, typer.Argument(help="The CUDA library, libonnxnorm_cuda.so.")],
) -> None:
    """Print the tables of docs/cuda.md."""
    head = (
        "kernel",
        "stored as",
        "static shared bytes",
        *(f"sm_{a.capability}" for a in ARCHITECTURES),
    )
    print(markdown(head, kernel_rows(machine_code.kernels(library))))
    print()
    times = [cell for gpu in GPUS for cell in (gpu.name, "µs, predicted")]
    print(markdown(("layer, float32", "least MB", *times), shape_rows()))


if __name__ == "__main__":
    typer.run(main)
