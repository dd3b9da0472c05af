"""``onnxnorm bench``: how long an ONNX file runs, and what part of that its norms take."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxnorm import limits
from onnxnorm.cli import layers, terminal

if TYPE_CHECKING:
    from onnxnorm.benchmark import Benchmark
    from onnxnorm.latency import Timing
    from onnxnorm.node_times import NormTime

_NORM_COLUMNS = ("norm", "operator", "input", "ms", "share", "floor", "of its floor")
_TOTAL_COLUMNS = ("", "ms", "quartiles", "share")
_SHOWN = 5
_SIZE = re.compile(r"0*[1-9][0-9]{0,17}", re.ASCII)


def bench(
    model: Annotated[Path, typer.Argument(metavar="FILE", help="An ONNX file.")],
    against: Annotated[
        Path | None, typer.Option(metavar="OTHER", help="One that takes the same inputs.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of each session. Default: one for each CPU.")
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, max=limits.ROUNDS, help="Turns of each competitor.")
    ] = 20,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Size of open first dimensions. Default: 1.")
    ] = None,
    shapes: Annotated[
        list[str] | None,
        typer.Option("--shape", metavar="NAME=1x224x224x3", help="Shape of an input; repeatable."),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(help="A .npz file with one array per input. Default: random inputs."),
    ] = None,
    as_it_is: Annotated[
        bool, typer.Option("--no-optimize", help="Time the nodes of the files as they are.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time an ONNX file on the CPU: whole, its norms, and the floor of these.

    The floor of a norm is the time of a copy that moves as many bytes. What the profiler itself
    takes of a node's time is measured and taken off.
    """
    from onnxnorm import benchmark

    if inputs is not None and (shapes or batch):
        raise typer.BadParameter("the arrays of --inputs have their shapes: no --shape or --batch")
    cpus = _cpus()
    if threads is not None and threads > cpus:
        raise typer.BadParameter(f"--threads {threads}: only {cpus} CPUs are there")
    settings = benchmark.Settings(threads or cpus, rounds, batch, _shapes(shapes), not as_it_is)
    with terminal.advancing(f"timing {model}") as advance:
        found = benchmark.bench(model, against, settings, inputs, advance)
    if as_json:
        terminal.show_json(found.to_dict())
        return
    terminal.show_table(_NORM_COLUMNS, [_norm_row(norm) for norm in found.nodes.norms])
    terminal.show_table(_TOTAL_COLUMNS, _total_rows(found))
    for note in found.notes:
        terminal.show(f"note: {' '.join(note.split())}")
    terminal.show(f"{model}: {_summary(found)}")


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _shapes(texts: list[str] | None) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for text in texts or ():
        name, _, sizes = text.rpartition("=")
        parts = sizes.split("x")
        shape = tuple(int(part) for part in parts if _SIZE.fullmatch(part))
        if not name or len(shape) < len(parts):
            raise typer.BadParameter(f"--shape {text}: NAME=1x224x224x3 is expected")
        if name in found:
            raise typer.BadParameter(f"--shape {text}: the input has a shape already")
        found[name] = shape
    return found


def _norm_row(norm: NormTime) -> tuple[str, ...]:
    more = [f"{norm.nodes} nodes"] * (norm.nodes > 1) + [f"{norm.calls} calls"] * (norm.calls > 1)
    return (
        norm.name + (f" (in {norm.inside})" if norm.inside else ""),
        norm.operator + (f" ({', '.join(more)})" if more else ""),
        f"{norm.input_type} {layers.shape_text(norm.input_shape)}",
        f"{norm.milliseconds:.4f}",
        f"{norm.share:.1%}",
        f"{norm.floor:.4f}" if norm.floor else "",
        f"{norm.milliseconds / norm.floor:.2f}" if norm.floor else "",
    )


def _total_rows(found: Benchmark) -> list[tuple[str, ...]]:
    nodes = found.nodes
    others = list(nodes.others.items())
    shown, rest = others[:_SHOWN], [milliseconds for _, milliseconds in others[_SHOWN:]]
    if rest:
        shown.append((f"{len(rest)} other operators", sum(rest)))
    return [
        (found.file, *_times(found.whole), ""),
        *([(found.other.file, *_times(found.other.whole), "")] if found.other else []),
        (
            "norms",
            f"{nodes.norm_milliseconds:.3f}",
            "",
            f"{nodes.norm_share:.1%}",
        ),
        *(
            (operator, f"{milliseconds:.3f}", "", f"{milliseconds / nodes.milliseconds:.1%}")
            for operator, milliseconds in shown
        ),
    ]


def _times(timing: Timing) -> tuple[str, str]:
    return f"{timing.median:.3f}", f"{timing.first_quartile:.3f} to {timing.third_quartile:.3f}"


def _summary(found: Benchmark) -> str:
    given = ", ".join(
        f"{name} {dtype} {layers.shape_text(shape)}"
        for name, (dtype, shape) in found.inputs.items()
    )
    threads = found.settings.threads
    parts = [f"{given or 'no inputs'}, {threads} thread{'s' if threads > 1 else ''}"]
    known = [(norm.milliseconds, norm.floor) for norm in found.nodes.norms if norm.floor]
    if known:
        taken, least = map(sum, zip(*known, strict=True))
        parts.append(f"its norms take {taken / least:.2f} times their floor")
    if found.other:
        other = found.other
        parts.append(
            f"{other.file} takes {other.times_as_long:.2f} times as long "
            f"(quartiles {other.first_quartile:.2f} to {other.third_quartile:.2f})"
        )
    return "; ".join(parts)
