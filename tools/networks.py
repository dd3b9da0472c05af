"""Real networks through plain tf2onnx and through onnxnorm: `python -m tools.networks --help`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

if __name__ == "__main__":
    from tools import checkout

    checkout.behind_installed()

from models.networks import NETWORKS, Network
from onnxnorm.latency import Timing
from tools import environment
from tools.network_study import CUSTOM, OPTIMIZED, PLAIN, Settings, Study, study

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_WIDTH_OF_A_PIPE = 180
_NOT_GOOD = 1
_UNUSABLE = 2
_COLUMNS = (
    "network",
    "nodes",
    "Transposes",
    "norms → nodes",
    "folded",
    "parity",
    "plain ms",
    "custom ms",
    "optimized ms",
    "faster",
    "conversion s",
    "ratio",
)


@app.command(epilog="Example: python -m tools.networks convnext_tiny style_transfer")
def networks(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help=f"Default: all that can be built here, of {', '.join(NETWORKS)}.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of TensorFlow and ONNX Runtime; default: all cores.")
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Turns of each graph in the race.")
    ] = Settings.rounds,
    conversions: Annotated[
        int, typer.Option(min=1, help="Times that each way of converting is timed.")
    ] = Settings.conversions,
    small: Annotated[bool, typer.Option("--small", help="Few layers, small inputs.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all that was found to this file.")
    ] = None,
) -> None:
    """Convert real networks with random weights, prove parity, and time them, batch 1.

    Exit status 0: every network is in parity, 1: not so, 2: bad usage or a network that cannot be
    built here.
    """
    chosen = _chosen(names)
    settings = Settings(threads or environment.available_cores(), rounds, conversions, small)
    found = []
    where = environment.describe()
    for network in chosen:
        _say(f"{network.name} ...")
        found.append(study(network, settings))
        if json_file:
            # After each, as all of them take long.
            _write(json_file, where, settings, found)
    console = _stdout()
    console.print(_table(found))
    for one in found:
        if one.failure:
            console.print(f"{one.name}: plain tf2onnx fails: {one.failure}", markup=False)
        if one.decomposed:
            told = ", ".join(one.decomposed)
            console.print(f"{one.name}: normalized by operations: {told}", markup=False)
        if not one.passed:
            console.print(one.parity, markup=False)
    versions = ", ".join(f"{name} {version}" for name, version in where.versions.items())
    console.print(f"{where.processor}, {where.system}, {settings.threads} threads; {versions}")
    if not all(one.passed for one in found):
        raise typer.Exit(_NOT_GOOD)


def _chosen(names: list[str] | None) -> list[Network]:
    unknown = [name for name in names or () if name not in NETWORKS]
    if unknown:
        _refuse(f"no network {', '.join(map(repr, unknown))}; there are {', '.join(NETWORKS)}")
    chosen = [NETWORKS[name] for name in names or NETWORKS]
    missing = {network.name: network.missing() for network in chosen if network.missing()}
    if names and missing:
        told = "; ".join(f"{name} needs {', '.join(needs)}" for name, needs in missing.items())
        _refuse(f"{told}: not installed")
    return [network for network in chosen if network.name not in missing]


def _write(
    path: Path, where: environment.Environment, settings: Settings, found: list[Study]
) -> None:
    everything = {"environment": asdict(where), "settings": asdict(settings)}
    everything["networks"] = [asdict(one) for one in found]
    path.write_text(json.dumps(everything, indent=2) + "\n")


def _table(found: list[Study]) -> Table:
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 1))
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    for one in found:
        table.add_row(*_cells(one))
    return table


def _cells(one: Study) -> list[str]:
    faster = one.times_faster.get(OPTIMIZED)
    return [
        one.name,
        _pair(one, "nodes"),
        _pair(one, "transposes"),
        f"{one.layers} → {one.norm_nodes}",
        str(one.folded),
        "pass" if one.passed else "FAIL",
        _milliseconds(one.timings.get(PLAIN)),
        _milliseconds(one.timings[CUSTOM]),
        _milliseconds(one.timings[OPTIMIZED]),
        "-" if faster is None else f"{faster:.2f}×",
        " → ".join(f"{s:.1f}" for s in one.conversion.values()),
        "-" if one.conversion_ratio is None else f"{one.conversion_ratio:.2f}",
    ]


def _pair(one: Study, what: str) -> str:
    before = str(getattr(one.graphs[PLAIN], what)) if PLAIN in one.graphs else "fails"
    after = [getattr(one.graphs[form], what) for form in (CUSTOM, OPTIMIZED)]
    return " → ".join([before, *map(str, dict.fromkeys(after))])


def _milliseconds(timing: Timing | None) -> str:
    """The median, and half of the distance between the quartiles."""
    if timing is None:
        return "-"
    spread = (timing.third_quartile - timing.first_quartile) / 2
    return f"{timing.median:.1f} ±{spread:.1f}"


def _refuse(message: str) -> None:
    Console(stderr=True).print(f"networks: error: {message}", markup=False, soft_wrap=True)
    raise typer.Exit(_UNUSABLE)


def _say(line: str) -> None:
    Console(stderr=True).print(line, markup=False, highlight=False)


def _stdout() -> Console:
    # A pipe has no width; rich would take 80 columns and fold.
    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE, highlight=False)


if __name__ == "__main__":
    app(prog_name="python -m tools.networks")
