"""``onnxnorm info``: versions, providers, the native library and the processor."""

from __future__ import annotations

import ctypes
import platform
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

import onnxnorm
from onnxnorm.cli import terminal
from onnxnorm.errors import OnnxNormError

# Read from the installed packages' metadata: importing TensorFlow takes seconds.
_DISTRIBUTIONS = {
    "numpy": ("numpy",),
    "onnx": ("onnx",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "tensorflow-addons": ("tensorflow-addons",),
    "keras": ("keras",),
    "tf2onnx": ("tf2onnx",),
}
_RELEVANT_CPU_FLAGS = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_bf16"),
    *("avx512_fp16", "amx_bf16", "asimd", "asimdhp", "bf16", "sve"),
)


def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show versions, execution providers, the native library and the processor."""
    with terminal.working("looking around"):
        facts = _facts()
    if as_json:
        terminal.show_json(facts)
    else:
        terminal.show_table(("", ""), [(name, _text(value)) for name, value in facts.items()])


def _facts() -> dict[str, Any]:
    return {
        "onnxnorm": onnxnorm.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: _version(names) for name, names in _DISTRIBUTIONS.items()},
        "providers": _providers(),
        "library": _library("cpu"),
        "CUDA library": _library("cuda"),
        "cpu": platform.machine(),
        "instruction set": _instruction_set(),
        "cpu flags": _cpu_flags(),
    }


def _version(distributions: tuple[str, ...]) -> str | None:
    """Version of the first of the distributions that is installed, with its name if it differs."""
    for distribution in distributions:
        try:
            version = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
        return version if distribution == distributions[0] else f"{version} ({distribution})"
    return None


def _providers() -> list[str]:
    try:
        import onnxruntime
    except ImportError:
        return []
    return list(onnxruntime.get_available_providers())


def _library(provider: str) -> str:
    try:
        return str(onnxnorm.library_path(provider))
    except OnnxNormError as error:
        return f"none: {error}"


def _instruction_set() -> str:
    """What the native library's kernels use here."""
    library = _library("cpu")
    if library.startswith("none: "):
        return library
    try:
        name = ctypes.CDLL(library).OnnxnormInstructionSet
    except (OSError, AttributeError) as error:
        return f"none: {error}"
    name.restype = ctypes.c_char_p
    return str(name(), "utf-8")


def _cpu_flags() -> list[str]:
    """Those of the processor's instruction sets that matter to kernels; Linux only."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return []
    lines = cpuinfo.read_text().splitlines()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "").split()
    return [flag for flag in _RELEVANT_CPU_FLAGS if flag in flags]


def _text(value: Any) -> str:
    if value is None:
        return "not installed"
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)
