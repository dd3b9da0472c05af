"""The CUDA kernels in the emulation: how a node is launched, and what it computes."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxnorm.opset import OPERATORS
from onnxnorm.opset.activations import ACTIVATIONS

Array = npt.NDArray[Any]

ROOT = Path(__file__).parents[1]
SOURCES = (
    "custom_ops/cuda/normalize.cu",
    "custom_ops/cuda/plan.cpp",
    "custom_ops/cuda/problem.cpp",
    "custom_ops/emulation/emulation.cpp",
    "custom_ops/normalization.cpp",
    "custom_ops/ops/geometry.cpp",
    "custom_ops/emulation/library.cpp",
)
KINDS = (
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "RMSNormalization",
    "FilterResponseNormalization",
    "UnitNormalization",
)
ELEMENTS = ("float32", "float16", "bfloat16", "float64")
ORDERS = ("forward", "reversed", "shuffled")
#: As the library numbers them; -1 is the strided kernel.
METHODS = (
    "rows_in_registers",
    "rows_in_shared",
    "rows_in_chunks",
    "columns_in_shared",
    "columns_in_chunks",
    "strided",
)


@dataclass(frozen=True)
class Machine:
    """The order of threads, and what the planned launches are told of the device."""

    order: str = "forward"
    seed: int = 0
    multiprocessors: int = 8
    shared_per_block: int = 48 << 10


@dataclass(frozen=True)
class Launch:
    """How a node's kernels are launched.

    Attributes:
        method: which kernels.
        vector: elements of a load or store.
        items: vectors that a thread holds in registers.
        grid: blocks, of the first kernel where there are two.
        block: threads of a block.
        shared: bytes of dynamic shared memory of a block.
        scratch_bytes: global memory for partial statistics.
    """

    method: str
    vector: int
    items: int
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared: int
    scratch_bytes: int


class _Node(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int32),
        ("element", ctypes.c_int32),
        ("axis", ctypes.c_int64),
        ("num_groups", ctypes.c_int64),
        ("axes", ctypes.POINTER(ctypes.c_int64)),
        ("axes_count", ctypes.c_int64),
        ("subtract_mean", ctypes.c_int64),
        ("epsilon", ctypes.c_float),
        ("activation", ctypes.c_int32),
        ("parameters", ctypes.c_double * 2),
        ("residual_first", ctypes.c_int32),
    )


class _Tensors(ctypes.Structure):
    _fields_ = (
        ("shapes", ctypes.POINTER(ctypes.c_int64) * 3),
        ("ranks", ctypes.c_int64 * 3),
        ("x", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("residual", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
    )


class _Machine(ctypes.Structure):
    _fields_ = (
        ("order", ctypes.c_int32),
        ("seed", ctypes.c_uint64),
        ("multiprocessors", ctypes.c_int32),
        ("shared_per_block", ctypes.c_int64),
    )


class _Chosen(ctypes.Structure):
    _fields_ = (
        ("method", ctypes.c_int32),
        ("vector", ctypes.c_int32),
        ("items", ctypes.c_int32),
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 2),
        ("shared", ctypes.c_int64),
        ("scratch_bytes", ctypes.c_int64),
    )


@cache
def library() -> ctypes.CDLL:
    """The kernels and the emulation, compiled once for the present sources.

    ``ONNXNORM_EMULATION_SANITIZE`` names sanitizers to compile with.
    """
    sanitize = os.environ.get("ONNXNORM_EMULATION_SANITIZE", "")
    folder = ROOT / "build" / "emulated" / (sanitize or "plain")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "libemulated.so"
    newest = max(
        file.stat().st_mtime
        for file in (ROOT / "custom_ops").rglob("*")
        if file.suffix in {".h", ".cuh", ".cu", ".cpp"}
    )
    if not path.exists() or path.stat().st_mtime < newest:
        made = folder / f"libemulated.{os.getpid()}.so"
        _compile(made, sanitize)
        # Another process may have been as far: the last one's stays, and all are alike.
        made.replace(path)
    loaded = ctypes.CDLL(str(path))
    loaded.emulated.restype = ctypes.c_char_p
    return loaded


def _compile(path: Path, sanitize: str) -> None:
    compiler = os.environ.get("CXX") or shutil.which("c++") or "c++"
    flags = ["-std=c++17", "-O1", "-g1", "-fPIC", "-shared", "-pthread", "-Wno-unknown-pragmas"]
    flags += ["-fvisibility=hidden", "-DONNXNORM_EMULATION", f"-I{ROOT / 'custom_ops'}"]
    if sanitize:
        flags += [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer"]
    for source in SOURCES:
        flags += ["-x", "c++", str(ROOT / source)]
    subprocess.run([compiler, *flags, "-o", str(path)], check=True)


def run(
    operator: str,
    x: Array,
    scale: Array,
    bias: Array,
    element: str = "float32",
    residual: Array | None = None,
    machine: Machine | None = None,
    offset: int = 0,
    onto: str | None = None,
    **attributes: Any,
) -> tuple[Array, Launch]:
    """The node's output, and how its kernels were launched.

    ``offset``: elements between an address that vectors can be loaded from and the tensors.
    ``onto``: ``"x"`` or ``"residual"``, in whose memory the output then is.

    Raises:
        RuntimeError: the emulation found a fault, or the node is refused.
    """
    given = [_raw(values, element, offset) for values in (x, scale, bias)]
    added = None if residual is None else _raw(residual, element, offset)
    # Poisoned: what no thread writes does not look like a result.
    y = np.frombuffer(bytearray(b"\xff" * given[0].nbytes), given[0].dtype).reshape(x.shape)
    if onto is not None:
        y = given[0] if onto == "x" else added
    pointers = {
        "x": given[0].ctypes.data,
        "scale": given[1].ctypes.data,
        "bias": given[2].ctypes.data,
        "residual": None if added is None else added.ctypes.data,
        "y": y.ctypes.data,
    }
    shapes = [values.shape for values in given]
    launch = _call(operator, element, shapes, pointers, machine or Machine(), attributes)
    return _cooked(y, element), launch


def plan(
    operator: str,
    shapes: Sequence[Sequence[int]],
    element: str = "float32",
    machine: Machine | None = None,
    **attributes: Any,
) -> Launch:
    """How the kernels of a node are launched, for the shapes of X, scale and bias."""
    return _call(operator, element, shapes, {}, machine or Machine(), attributes)


def _call(
    operator: str,
    element: str,
    shapes: Sequence[Sequence[int]],
    pointers: Mapping[str, int | None],
    machine: Machine,
    given: Mapping[str, Any],
) -> Launch:
    attributes = {**OPERATORS[operator].attributes, **given}
    axes = _int64s(attributes.get("axes", []))
    node = _Node(
        kind=KINDS.index(operator),
        element=ELEMENTS.index(element),
        axis=attributes.get("axis", 1),
        num_groups=attributes.get("num_groups", 0),
        axes=axes,
        axes_count=len(axes),
        subtract_mean=attributes.get("subtract_mean", 1),
        epsilon=attributes["epsilon"],
        activation=_activation(attributes.get("activation")),
        parameters=(ctypes.c_double * 2)(*attributes.get("activation_params", [])),
        residual_first=attributes.get("residual_stage") == "input",
    )
    listed = [_int64s(shape) for shape in shapes]
    tensors = _Tensors(
        shapes=(ctypes.POINTER(ctypes.c_int64) * 3)(
            *(ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64)) for shape in listed)
        ),
        ranks=(ctypes.c_int64 * 3)(*map(len, shapes)),
        **pointers,
    )
    device = _Machine(
        ORDERS.index(machine.order),
        machine.seed,
        machine.multiprocessors,
        machine.shared_per_block,
    )
    chosen = _Chosen()
    message = library().emulated(
        ctypes.byref(node), ctypes.byref(tensors), ctypes.byref(device), ctypes.byref(chosen)
    )
    if message is not None:
        raise RuntimeError(message.decode())
    return Launch(
        METHODS[chosen.method],
        chosen.vector,
        chosen.items,
        tuple(chosen.grid),
        tuple(chosen.block),
        chosen.shared,
        chosen.scratch_bytes,
    )


def _int64s(values: Sequence[int]) -> Any:
    return (ctypes.c_int64 * len(values))(*values)


def _activation(name: str | None) -> int:
    return 0 if name is None else 1 + list(ACTIVATIONS).index(name)


def _raw(values: Array, element: str, offset: int) -> Array:
    """As the device stores them; bfloat16 comes as float32 with short mantissas."""
    if element == "bfloat16":
        values = (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    else:
        values = values.astype(element)
    room = np.empty(values.nbytes + 16 + offset * values.itemsize, np.uint8)
    begin = -room.ctypes.data % 16 + offset * values.itemsize
    aligned = room[begin : begin + values.nbytes].view(values.dtype).reshape(values.shape)
    aligned[...] = values
    return aligned


def _cooked(values: Array, element: str) -> Array:
    if element != "bfloat16":
        return values
    return (values.astype(np.uint32) << 16).view(np.float32)
