"""What a measurement was made on: versions, processor, date."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

# The same library goes by several distribution names.
_DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = {
    "tensorflow": ("tensorflow-cpu", "tensorflow"),
    "tensorflow-addons": ("tensorflow-addons",),
    "tf2onnx": ("tf2onnx",),
    "onnx": ("onnx",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "onnxnorm": ("onnxnorm",),
    "numpy": ("numpy",),
    "torch": ("torch",),
    "openvino": ("openvino",),
}


@dataclass(frozen=True)
class Environment:
    """The machine and the software of a measurement.

    Attributes:
        date: UTC, ISO 8601, to the second.
        processor: its name and the number of cores that this process may use.
        system: operating system and architecture.
        versions: by name of the library, Python included.
    """

    date: str
    processor: str
    system: str
    versions: Mapping[str, str]


def describe() -> Environment:
    """The environment of this process, now."""
    return Environment(
        datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        f"{_processor_name()}, {available_cores()} cores",
        f"{platform.system()} {platform.machine()}",
        versions(),
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that take part; libraries not found are left out."""
    found = {name: installed_version(name) for name in _DISTRIBUTIONS}
    return {"python": platform.python_version()} | {n: v for n, v in found.items() if v}


def installed_version(name: str) -> str | None:
    """The version of an installed library, read without importing it."""
    for distribution in _DISTRIBUTIONS[name]:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def available_cores() -> int:
    """The number of processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
