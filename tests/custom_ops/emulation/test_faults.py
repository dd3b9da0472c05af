"""The emulation of CUDA finds the faults that it is there for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[3] / "custom_ops" / "emulation"
ORDERS = ("forward", "reversed", "shuffled")


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of planted faults, under the address sanitizer."""
    program = tmp_path_factory.mktemp("emulation") / "faults"
    sources = (str(Path(__file__).with_name("faults.cpp")), str(SOURCES / "emulation.cpp"))
    flags = ("-std=c++17", "-O1", "-g", "-pthread", "-fsanitize=address", f"-I{SOURCES}")
    subprocess.run(["c++", *flags, *sources, "-o", str(program)], check=True)
    return program


def run(faults: Path, name: str, order: str = "forward", seed: int = 0) -> tuple[int, str]:
    done = subprocess.run(
        [str(faults), name, order, str(seed)], capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("order", ORDERS)
def test_right_kernel_passes(faults: Path, order: str) -> None:
    assert run(faults, "none", order) == (0, "")


def test_permitted_shared_memory_is_no_fault(faults: Path) -> None:
    assert run(faults, "permitted_shared") == (0, "")


# The thread that reads comes last in the reversed order, after all that it should have waited for.
@pytest.mark.parametrize("order", ["forward", "shuffled"])
def test_missing_barrier_shows_in_the_result(faults: Path, order: str) -> None:
    assert run(faults, "missing_barrier", order) == (1, "wrong sums\n")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("barrier_not_met_by_all", "wait for one another for ever: 40 at the barrier"),
        ("different_barriers", "meet at different barriers"),
        ("divergent_shuffle", "a lane of the mask has left the kernel"),
        ("shuffle_outside_mask", "a shuffle reads a lane outside its mask"),
        ("out_of_bounds", "heap-buffer-overflow"),
        ("out_of_bounds_shared", "heap-buffer-overflow"),
        ("misaligned", "misaligned vector access"),
        ("too_much_dynamic_shared", "more dynamic shared memory than is permitted: 49168"),
        ("too_much_shared", "more shared memory than the launch is permitted"),
        ("too_many_threads", "1 blocks of 1025 threads"),
    ],
)
def test_fault_is_found(faults: Path, name: str, message: str) -> None:
    code, output = run(faults, name)
    assert code != 0
    assert message in output
