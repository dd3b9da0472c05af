"""Which execution providers a session uses, and whether they are those that were asked for."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import onnxruntime

from onnxnorm.opset import DOMAIN

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
_AZURE = "AzureExecutionProvider"  # remote services: in every release, no device

Provider = str | tuple[str, dict[str, Any]]

# Makes ONNX Runtime, from the release that knows it, keep which provider has which node.
RECORD_OPTION = "session.record_ep_graph_assignment_info"


def default() -> list[Provider]:
    """CUDA where it can be used, and the CPU."""
    return list(_usable([CUDA, CPU]))


def are_in(options: onnxruntime.SessionOptions) -> bool:
    """Whether session options name execution providers, as newer releases let them."""
    return hasattr(options, "has_providers") and bool(options.has_providers())


def library(providers: Sequence[Provider], has_cuda_library: bool) -> str | None:
    """The native library that a session is to be given.

    None where its nodes had better run as their function bodies: on a device for which there is
    no library, one of the CPU's would tear them out of the device's graph.
    """
    usable = _usable(name for name in map(name_of, providers) if name != _AZURE)
    if not usable or usable[0] == CPU:
        return "cpu"
    return "cuda" if CUDA in usable and has_cuda_library else None


def unused(asked: Sequence[Provider], used: Sequence[str]) -> Iterator[str]:
    """What to tell a user whose session does not run where it was asked to."""
    missing = [name for name in map(name_of, asked) if name not in used]
    if missing:
        yield (
            f"asked for {', '.join(missing)}, but runs on {', '.join(used)}: is there a device, "
            f"and the CUDA version that onnxruntime-gpu {onnxruntime.__version__} wants?"
        )


def left_on_cpu(session: Any) -> Iterator[str]:
    """What to tell of normalization nodes on the CPU in a session on CUDA, as far as is known."""
    if CUDA not in session.get_providers():
        return
    try:
        parts = session.get_provider_graph_assignment_info()
    except Exception:  # an older release, or a session that was not asked to record
        return
    names = [
        node.name
        for part in parts
        if part.ep_name == CPU
        for node in part.get_nodes()
        if node.domain == DOMAIN
    ]
    if names:
        yield (
            f"{len(names)} normalization nodes run on the CPU, their tensors copied there and "
            f"back: {', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
        )


def _usable(names: Iterable[str]) -> list[str]:
    available = onnxruntime.get_available_providers()
    return [n for n in names if n in available and (n != CUDA or has_cuda_device())]


@cache
def has_cuda_device() -> bool:
    """Whether the CUDA driver is there and sees a device: onnxruntime-gpu tells neither."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return False
    return count.value > 0


def name_of(provider: Provider) -> str:
    """A provider's name, without its options."""
    return provider if isinstance(provider, str) else provider[0]
