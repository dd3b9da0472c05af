"""What nvcc made of the CUDA kernels: registers, memory and instructions, read with cuobjdump."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ELEMENTS = {
    "f": "float32",
    "d": "float64",
    "N7onnxnorm4cuda4HalfE": "float16",
    "N7onnxnorm4cuda6BFloatE": "bfloat16",
    # As a later argument of the same name would be shortened.
    "NS0_4HalfE": "float16",
    "NS0_6BFloatE": "bfloat16",
}
_NAME = re.compile(r"_ZN8onnxnorm4cuda\d+([a-z_]+)I(f|d|NS0_4HalfE|NS0_6BFloatE)((?:Li\d+E)*)E")
_RESOURCES = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


@dataclass(frozen=True, order=True)
class Kernel:
    """One kernel as compiled for one architecture.

    Attributes:
        name: of the function.
        element: storage type.
        vector: elements of a load or store, 1 for kernels without vectors.
        items: vectors that a thread holds, 0 where that is not fixed.
        architecture: compute capability without the dot.
        registers: of a thread.
        stack: bytes of a thread's stack, which spilled registers go to.
        shared: bytes of static shared memory of a block.
    """

    name: str
    element: str
    vector: int
    items: int
    architecture: int
    registers: int
    stack: int
    shared: int


def cuobjdump() -> Path | None:
    """The program: ``CUOBJDUMP``, the one on the path, or nvidia-cuda-cuobjdump's."""
    packages = (Path(folder) / "nvidia" for folder in sys.path)
    candidates = [
        os.environ.get("CUOBJDUMP"),
        shutil.which("cuobjdump"),
        *(found for folder in packages for found in sorted(folder.glob("*/bin/cuobjdump"))),
    ]
    return next((Path(found) for found in candidates if found), None)


def kernels(library: Path) -> tuple[Kernel, ...]:
    """All kernels in a library, for each architecture."""
    found = []
    for architecture, text in _by_architecture(_dump(library, "--dump-resource-usage")):
        for symbol, resources in re.findall(r"Function (\S+):\n\s*(.*)", text):
            identity, numbers = _identity(symbol), _RESOURCES.search(resources)
            if identity and numbers:
                registers, stack, shared, local = map(int, numbers.groups())
                found.append(Kernel(*identity, architecture, registers, stack + local, shared))
    return tuple(sorted(found))


def instructions(library: Path, architecture: int) -> dict[tuple[str, str, int, int], str]:
    """The machine code of each kernel, by name, element, vector and items."""
    dumped = _dump(library, "--dump-sass", "--gpu-architecture", f"sm_{architecture}")
    parts = re.split(r"\n\s*Function : ", dumped)[1:]
    named = ((_identity(part.split("\n", 1)[0]), part) for part in parts)
    return {identity: part for identity, part in named if identity}


def _identity(symbol: str) -> tuple[str, str, int, int] | None:
    matched = _NAME.match(symbol)
    if matched is None:
        return None
    name, element, numbers = matched.groups()
    vector, items, *_ = (
        [*map(int, re.findall(r"Li(\d+)E", numbers)), 1, 0][:2] if numbers else (1, 0)
    )
    if numbers and numbers.count("Li") == 1:
        items = 0
    return name, _ELEMENTS[element], vector, items


def _by_architecture(text: str) -> Iterator[tuple[int, str]]:
    parts = re.split(r"arch = sm_(\d+)", text)
    yield from ((int(a), part) for a, part in zip(parts[1::2], parts[2::2], strict=True))


def _dump(library: Path, *arguments: str) -> str:
    program = cuobjdump()
    if program is None:
        raise FileNotFoundError("cuobjdump: install the CUDA toolkit or nvidia-cuda-cuobjdump")
    # nvdisasm, which it calls, lies beside it.
    path = f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [str(program), *arguments, str(library)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": path},
    )
    return done.stdout
