"""The CUDA kernels on a real device: ``python -m tools.gpu_check`` for whoever has one.

Parity with the float64 oracle over the case table, compute-sanitizer where it is installed, and the
bandwidth that is reached, beside that of an elementwise node (the least that any node of this size
can take), of ONNX Runtime's own operators and of PyTorch. Needs onnxruntime-gpu and an onnxnorm
that was built where nvcc is.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import onnxruntime
import typer
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

import onnxnorm
from onnxnorm import files
from onnxnorm.opset import DOMAIN, OPERATORS
from onnxnorm.provider_choice import CPU, CUDA
from tools.cuda_cases import CASES, LARGE, Array, Case
from tools.cuda_table import SHAPES, Shape

ELEMENTS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
#: A node is timed in a chain of this many, so that launching and waiting do not count.
CHAIN = 32
ROUNDS = 20


@dataclass(frozen=True)
class Parity:
    """One node's largest error against the float64 oracle, and how much rounding allows."""

    case: str
    element: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        return self.error <= self.allowed


@dataclass(frozen=True)
class Speed:
    """What one node takes: microseconds (median), and GB/s of reading and writing once."""

    layer: str
    element: str
    party: str
    microseconds: float
    gigabytes: float


def chain(
    operator: str,
    domain: str,
    shape: tuple[int, ...],
    parameters: tuple[tuple[int, ...], ...],
    element: int,
    length: int,
    **attributes: Any,
) -> onnx.ModelProto:
    """Nodes one after the other, all with the same parameters."""
    names = [f"p{i}" for i in range(len(parameters))]
    nodes = [
        helper.make_node(
            operator, [f"t{i}", *names], [f"t{i + 1}"], name=f"n{i}", domain=domain, **attributes
        )
        for i in range(length)
    ]
    inputs = [
        helper.make_tensor_value_info(name, kind, dims)
        for name, dims, kind in (
            ("t0", shape, element),
            *(
                (n, p, element if domain != "com.microsoft" else TensorProto.FLOAT)
                for n, p in zip(names, parameters, strict=True)
            ),
        )
    ]
    output = helper.make_tensor_value_info(f"t{length}", element, shape)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    opsets.append(helper.make_opsetid("com.microsoft", 1))
    graph = helper.make_graph(nodes, "chain", inputs, [output])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session on the device, or an error."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxnorm.InferenceSession(model, options, [CUDA, CPU], optimize=False, strict=True)


def parity(name: str, case: Case, element: str, mean: float) -> Parity:
    """One case on the device."""
    given = [values.astype(element) for values in case.values(mean)]
    shapes = tuple(values.shape for values in given[1:])
    attributes = dict(case.attributes)
    model = chain(case.operator, DOMAIN, case.shape, shapes, ELEMENTS[element], 1, **attributes)
    (y,) = session(model).run(None, dict(zip(("t0", "p0", "p1"), given, strict=True)))
    defaults = OPERATORS[case.operator].attributes
    epsilon = float(np.float32(attributes.pop("epsilon", defaults["epsilon"])))
    reference = OPERATORS[case.operator].reference
    wide = [values.astype(np.float64) for values in given]
    expected = reference(*wide, **{**defaults, **attributes, "epsilon": epsilon})
    rounding = 2.0**-24 if element == "float32" else 2.0**-11
    allowed = (16 * 2.0**-24 + 1.01 * rounding) * (np.abs(expected).max() + np.abs(wide[2]).max())
    error = np.abs(y.astype(np.float64) - expected).max()
    return Parity(f"{name}, mean {mean:g}", element, float(error), float(allowed))


def timed(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> float:
    """Microseconds of one node of a chain: the median of rounds, on data on the device."""
    running = session(model)
    binding = running.io_binding()
    for name, values in inputs.items():
        binding.bind_ortvalue_input(
            name, onnxruntime.OrtValue.ortvalue_from_numpy(values, "cuda", 0)
        )
    binding.bind_output(model.graph.output[0].name, "cuda")
    times = []
    for round_number in range(ROUNDS + 5):
        start = time.perf_counter()
        running.run_with_iobinding(binding)
        binding.synchronize_outputs()
        if round_number >= 5:
            times.append((time.perf_counter() - start) / len(model.graph.node))
    return float(np.median(times)) * 1e6


def parties(shape: Shape, element: str) -> Mapping[str, Callable[[], float]]:
    """Who competes on one layer."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape.shape).astype(element)
    channels = shape.shape[shape.axis]
    ones, zeros = np.ones(channels, element), np.zeros(channels, element)
    kind = ELEMENTS[element]
    attributes: dict[str, Any] = {"num_groups": shape.groups} if shape.groups else {}
    if shape.operator != "LayerNormalization":
        attributes["axis"] = shape.axis
    both = ((channels,), (channels,))
    given = {"t0": x, "p0": ones, "p1": zeros}
    found: dict[str, Callable[[], float]] = {
        "elementwise": lambda: timed(chain("Neg", "", shape.shape, (), kind, CHAIN), {"t0": x}),
        "onnxnorm": lambda: timed(
            chain(shape.operator, DOMAIN, shape.shape, both, kind, CHAIN, **attributes), given
        ),
    }
    if shape.operator == "LayerNormalization":
        own = chain("LayerNormalization", "", shape.shape, both, kind, CHAIN, axis=-1)
        found["ONNX Runtime LayerNormalization"] = lambda: timed(own, given)
    elif shape.groups and shape.axis == -1 and len(shape.shape) == 4:
        own = chain(
            *("GroupNorm", "com.microsoft", shape.shape, both, kind, CHAIN),
            groups=shape.groups,
            activation=0,
            channels_last=1,
        )
        wide = {"t0": x, "p0": ones.astype(np.float32), "p1": zeros.astype(np.float32)}
        found["ONNX Runtime GroupNorm"] = lambda: timed(own, wide)
    try:
        import torch
    except ImportError:
        return found
    found["PyTorch"] = lambda: _torch(torch, shape, x)
    return found


def _torch(torch: Any, shape: Shape, x: Array) -> float:
    device_x = torch.from_numpy(x).cuda()
    channels = shape.shape[shape.axis]
    weight, bias = torch.ones(channels).cuda(), torch.zeros(channels).cuda()
    weight, bias = weight.to(device_x.dtype), bias.to(device_x.dtype)
    functional = torch.nn.functional
    if shape.operator == "LayerNormalization":

        def once() -> None:
            functional.layer_norm(device_x, (channels,), weight, bias)

    else:
        if shape.axis == -1:
            device_x = device_x.movedim(-1, 1)  # channels last in memory
        groups = shape.groups or channels

        def once() -> None:
            functional.group_norm(device_x, groups, weight, bias)

    times = []
    for round_number in range(ROUNDS + 5):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(CHAIN):
            once()
        end.record()
        torch.cuda.synchronize()
        if round_number >= 5:
            times.append(begin.elapsed_time(end) * 1e3 / CHAIN)
    return float(np.median(times))


def sanitized() -> str:
    """What compute-sanitizer says of the parity cases."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return "not installed"
    command = [
        program,
        "--error-exitcode",
        "9",
        sys.executable,
        "-m",
        "tools.gpu_check",
        "--parity-only",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    return "no fault" if done.returncode == 0 else (done.stdout + done.stderr)[-2000:]


def main(
    output: Annotated[Path, typer.Option("--json", help="Write what was found.")] = Path(
        "build/gpu_check.json"
    ),
    parity_only: Annotated[bool, typer.Option(help="No timing, no sanitizer.")] = False,
) -> None:
    """Check the CUDA kernels on this machine's device."""
    console = Console()
    checks = [
        parity(name, case, element, mean)
        for name, case in {**CASES, **LARGE}.items()
        for element in ELEMENTS
        for mean in ((0.0, 1e4) if element == "float32" else (0.0,))
    ]
    failed = [check for check in checks if not check.passed]
    for check in failed:
        console.print(f"[red]not in parity[/red] {check}")
    console.print(f"parity: {len(checks) - len(failed)} passed, {len(failed)} failed")
    if parity_only:
        raise typer.Exit(1 if failed else 0)
    memory = sanitized()
    console.print(f"compute-sanitizer: {memory}")
    speeds = []
    for shape in SHAPES:
        for element in ELEMENTS:
            moved = 2 * int(np.prod(shape.shape)) * np.dtype(element).itemsize
            for party, measure in parties(shape, element).items():
                try:
                    taken = measure()
                except Exception as error:  # a peer that cannot is no fault of ours
                    console.print(f"{shape.name} {element} {party}: {error}")
                    continue
                speeds.append(Speed(shape.name, element, party, taken, moved / taken / 1e3))
    table = Table("layer", "stored as", "party", "µs", "GB/s")
    for speed in speeds:
        row = (f"{speed.microseconds:.1f}", f"{speed.gigabytes:.0f}")
        table.add_row(speed.layer, speed.element, speed.party, *row)
    console.print(table)
    found = {
        "onnxruntime": onnxruntime.__version__,
        "parity": [{**asdict(check), "passed": check.passed} for check in checks],
        "sanitizer": memory,
        "speed": [asdict(speed) for speed in speeds],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(json.dumps(found, indent=2) + "\n", output)
    console.print(f"written: {output}")
    raise typer.Exit(1 if failed or memory not in ("no fault", "not installed") else 0)


if __name__ == "__main__":
    typer.run(main)
