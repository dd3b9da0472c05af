"""Normalization beside everything else that runs it on a CPU: `python -m tools.bench --help`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

if __name__ == "__main__":
    from tools import checkout

    checkout.behind_installed()

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

RESULTS, TABLES, PAGE = "results.json", "tables.md", "index.html"
_UNUSABLE = 2


@app.command(epilog="Example: make bench ARGS=--quick")
def bench(
    kinds: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KIND]...", help="Of operators, epilogues, series, networks; default: all."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="About three minutes.")] = False,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="Repeat for more; default: one, and all cores.")
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Folder of the page, the tables and the JSON file.")
    ] = Path("build/bench"),
    show: Annotated[
        Path | None, typer.Option("--from", metavar="JSON", help="Time nothing: show a file.")
    ] = None,
) -> None:
    """Race our kernels and networks against the other runtimes; write tables, JSON and a page.

    Exit status 0: done, whatever was found; 2: bad usage.
    """
    from rich.console import Console

    from tools import environment
    from tools.bench import page, results, study, tables

    errors = Console(stderr=True, highlight=False)
    cores = environment.available_cores()
    chosen = tuple(dict.fromkeys(kinds or study.KINDS))
    counts = tuple(sorted(set(threads or (1, cores))))
    problem = None
    if unknown := [kind for kind in chosen if kind not in study.KINDS]:
        problem = f"no kind {', '.join(unknown)}; there are {', '.join(study.KINDS)}"
    elif counts[-1] > cores:
        problem = f"{counts[-1]} threads, and {cores} cores to pin them to"
    try:
        report = None if problem or show is None else results.read(show)
    except ValueError as error:
        problem = str(error)
    if problem:
        errors.print(f"bench: error: {problem}", markup=False, soft_wrap=True)
        raise typer.Exit(_UNUSABLE)
    output.mkdir(parents=True, exist_ok=True)
    if report is None:
        make = study.quick if quick else study.full
        report = study.run(make(chosen, counts), lambda line: errors.print(line, markup=False))
        results.write(report, output / RESULTS)
    found = tables.all_of(report)
    # A pipe has no width; rich would take 80 columns and fold.
    console = Console(width=None if sys.stdout.isatty() else tables.WIDTH, highlight=False)
    for table in found:
        console.print(tables.terminal(table))
    page.write(report, found, output / PAGE, output / TABLES)
    console.print(f"{output / PAGE}, {output / TABLES}, {show or output / RESULTS}")


if __name__ == "__main__":
    app(prog_name="python -m tools.bench")
