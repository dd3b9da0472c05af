"""The kernels for aarch64, where a cross compiler and an emulator are at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "custom_ops"
COMPILER = "aarch64-linux-gnu-g++"
EMULATOR = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")

pytestmark = [
    *(
        pytest.mark.skipif(shutil.which(tool) is None, reason=f"no {tool}")
        for tool in (COMPILER, "cmake", "ninja")
    ),
    pytest.mark.skipif(EMULATOR is None, reason="no qemu-aarch64"),
]

Driver = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """Runs the program of tests/custom_ops/kernel_driver.cpp, held to a level."""
    folder = tmp_path_factory.mktemp("aarch64")
    toolchain = SOURCES / "cmake" / "aarch64-linux-gnu.cmake"
    options = ("--toolchain", str(toolchain), "-DONNXNORM_KERNELS_ONLY=ON")
    for command in (
        ["cmake", "-S", str(SOURCES), "-B", str(folder), "-G", "Ninja", *options],
        ["cmake", "--build", str(folder), "--target", "kernel_driver"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def run(level: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(EMULATOR), "-L", "/usr/aarch64-linux-gnu", str(folder / "kernel_driver")],
            env={**os.environ, "ONNXNORM_ISA": level},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize("level", ["avx2", "baseline"])
def test_levels_of_other_cpus_are_refused(driver: Driver, level: str) -> None:
    done = driver(level)
    assert done.returncode == 1
    assert done.stdout == f"ONNXNORM_ISA={level} is unknown; accepted: neon\n"


def test_every_case(driver: Driver) -> None:
    done = driver("neon")
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("neon: ")
    assert done.stdout.endswith(" passed, 0 failed\n")
