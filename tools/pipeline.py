"""Train the MNIST models, export them to ONNX, verify them: `python -m tools.pipeline --help`.

Each step goes on from what the step before it left in the output directory, and leaves alone what
is there and still right: a model is made again only when an option, a version, the code or a file
that it came from has changed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

if __name__ == "__main__":
    # Behind the installed packages, so that an installed onnxnorm with its library goes before the
    # sources beside this file; and without the folder of this file, whose names are too common.
    _root = Path(__file__).resolve().parents[1]
    _own = (_root, _root / "tools")
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() not in _own]
    sys.path.append(str(_root))

from models import MODELS, ModelCard
from tools import environment, mnist
from tools.steps import Advance, PipelineError, export, train, verify, workspace
from tools.steps.train import TrainSettings
from tools.steps.verify import VerifySettings
from tools.steps.workspace import Stamp

DEFAULT_OUT = Path("build/demo")
REPORT_FILE = "report.html"
SUMMARY_FILE = "summary.json"

_WIDTH_OF_A_PIPE = 160
_NOT_GOOD = 1
_UNUSABLE = 2

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Train the MNIST models, export them to ONNX, and prove that nothing was lost.",
    epilog="Example: python -m tools.pipeline run --out build/demo",
)

Out = Annotated[Path, typer.Option(help="Where everything is written.")]
Models = Annotated[
    str, typer.Option(metavar="A,B", help=f"Which models: all, or some of {', '.join(MODELS)}.")
]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the training set.")]
Seed = Annotated[int, typer.Option(min=0, help="Of weights, order and shifts of the images.")]
TrainSamples = Annotated[
    int | None, typer.Option(min=1, help="Use the first N training images, not all.")
]
TestSamples = Annotated[
    int | None, typer.Option(min=1, help="Use the first N test images, not all.")
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Of TensorFlow and of ONNX Runtime; default: all cores.")
]
Rounds = Annotated[
    int, typer.Option(min=0, help="Turns of each competitor in the latency race; 0 for none.")
]
Force = Annotated[bool, typer.Option("--force", help="Make again what is there and still right.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


@dataclass(frozen=True)
class Job:
    """What the commands share.

    Attributes:
        out: the output directory.
        cards: the models, in the order of the table.
        threads: of TensorFlow and ONNX Runtime.
        force: make again what is there.
    """

    out: Path
    cards: tuple[ModelCard, ...]
    threads: int
    force: bool

    def folder(self, card: ModelCard) -> Path:
        """Where a model's files are."""
        return self.out / card.name


@app.command(
    "train", epilog="Example: python -m tools.pipeline train --models group_norm,layer_norm"
)
def train_command(
    out: Out = DEFAULT_OUT,
    models: Models = "all",
    epochs: Epochs = TrainSettings.epochs,
    seed: Seed = TrainSettings.seed,
    train_samples: TrainSamples = None,
    test_samples: TestSamples = None,
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Fit the models on MNIST's training set and evaluate them on its test set."""
    with _errors_in_one_line():
        job = _job(out, models, threads, force)
        stamps = _train(job, TrainSettings(epochs, seed, train_samples, test_samples))
        _print_json(stamps) if as_json else _print_trained(job, stamps)


@app.command("export", epilog="Example: python -m tools.pipeline export --models group_norm")
def export_command(
    out: Out = DEFAULT_OUT,
    models: Models = "all",
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Convert the trained models to ONNX: plain tf2onnx, our native and our custom form."""
    with _errors_in_one_line():
        job = _job(out, models, threads, force)
        stamps = _export(job)
        _print_json(stamps) if as_json else _print_exported(job, stamps)


@app.command("verify", epilog="Example: python -m tools.pipeline verify --rounds 100")
def verify_command(
    out: Out = DEFAULT_OUT,
    models: Models = "all",
    threads: Threads = None,
    rounds: Rounds = VerifySettings.rounds,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Compare the exported models with TensorFlow; write the table and the report page.

    Exit status 0: every model is in parity and at least 97.5 % right, 1: not so, 2: bad usage or
    a step before this one is missing.
    """
    with _errors_in_one_line():
        job = _job(out, models, threads, force)
        good = _verify(job, rounds, as_json)
    if not good:
        raise typer.Exit(_NOT_GOOD)


@app.command("run", epilog="Example: python -m tools.pipeline run --out build/demo")
def run_command(
    out: Out = DEFAULT_OUT,
    models: Models = "all",
    epochs: Epochs = TrainSettings.epochs,
    seed: Seed = TrainSettings.seed,
    train_samples: TrainSamples = None,
    test_samples: TestSamples = None,
    threads: Threads = None,
    rounds: Rounds = VerifySettings.rounds,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train, export and verify: all three steps.

    Exit status as for verify.
    """
    with _errors_in_one_line():
        start = time.monotonic()
        job = _job(out, models, threads, force)
        _train(job, TrainSettings(epochs, seed, train_samples, test_samples))
        _export(job)
        good = _verify(job, rounds, as_json)
        _say(f"all of it took {time.monotonic() - start:.0f} s")
    if not good:
        raise typer.Exit(_NOT_GOOD)


def _train(job: Job, settings: TrainSettings) -> list[Stamp]:
    # Read when the first model needs it: everything may be there already.
    data = _Lazy(mnist.load)
    return _step(
        job,
        train.STEP,
        lambda card: train.key(card, settings),
        lambda card, advance: train.train(
            card, settings, data(), job.folder(card), job.threads, advance
        ),
    )


def _export(job: Job) -> list[Stamp]:
    trained = _needed(job, train.STEP)
    return _step(
        job,
        export.STEP,
        lambda card: export.key(card, trained[card.name]),
        lambda card, advance: export.export(
            card, trained[card.name], job.folder(card), job.threads, advance
        ),
    )


def _verify(job: Job, rounds: int, as_json: bool) -> bool:
    from tools import report, summary

    trained = _needed(job, train.STEP)
    exported = _needed(job, export.STEP)
    _refuse_outdated(job, trained, exported)
    settings = VerifySettings(job.threads, rounds)
    data = _Lazy(mnist.load)
    verified = _step(
        job,
        verify.STEP,
        lambda card: verify.key(card, settings, trained[card.name], exported[card.name]),
        lambda card, advance: verify.verify(
            card,
            settings,
            trained[card.name],
            exported[card.name],
            data(),
            job.folder(card),
            advance,
        ),
    )
    summaries = [
        summary.summarize(card, job.folder(card), trained[card.name], exported[card.name], stamp)
        for card, stamp in zip(job.cards, verified, strict=True)
    ]
    found = summary.as_json(summaries)
    workspace.write_json(job.out / SUMMARY_FILE, found)
    page = job.out / REPORT_FILE
    with _progress() as progress:
        task = progress.add_task("report page", total=None)
        folders = {card.name: job.folder(card) for card in job.cards}
        report.write(page, summaries, folders, data())
        progress.update(task, total=1, completed=1)
    _print_result(summaries, found, page, as_json)
    return bool(found["passed"])


def _step(
    job: Job,
    name: str,
    key: Callable[[ModelCard], dict[str, Any]],
    make: Callable[[ModelCard, Advance], Stamp],
) -> list[Stamp]:
    """The stamps of a step for all models; only what is not current is made."""
    return [_stamp(job, name, card, key(card), make) for card in job.cards]


def _stamp(
    job: Job,
    step: str,
    card: ModelCard,
    key: dict[str, Any],
    make: Callable[[ModelCard, Advance], Stamp],
) -> Stamp:
    title = f"{step} {card.name}"
    # One display for each model: away from a terminal a display is written when it closes.
    with _progress() as progress:
        task = progress.add_task(title, total=1.0)
        present = None if job.force else workspace.read_stamp(job.folder(card), step)
        if present is not None and workspace.is_current(present, key):
            progress.update(task, completed=1.0, description=f"{title}, up to date")
            return present
        stamp = make(card, lambda done: progress.update(task, completed=min(done, 1.0)))
        progress.update(task, completed=1.0)
        return stamp


def _needed(job: Job, step: str) -> dict[str, Stamp]:
    """The stamps of the step before, by model.

    Raises:
        PipelineError: one is missing.
    """
    found = {card.name: workspace.read_stamp(job.folder(card), step) for card in job.cards}
    missing = [name for name, stamp in found.items() if stamp is None]
    if missing:
        raise PipelineError(
            f"{job.out} holds no result of {step!r} for {', '.join(missing)}: {_first(job, step)}"
        )
    return {name: stamp for name, stamp in found.items() if stamp is not None}


def _refuse_outdated(job: Job, trained: dict[str, Stamp], exported: dict[str, Stamp]) -> None:
    outdated = [
        card.name
        for card in job.cards
        if not workspace.is_current(exported[card.name], export.key(card, trained[card.name]))
    ]
    if outdated:
        raise PipelineError(
            f"{job.out} holds an export of {', '.join(outdated)} from before the model or the "
            f"converter changed: {_first(job, export.STEP)}"
        )


def _first(job: Job, step: str) -> str:
    names = (
        "" if len(job.cards) == len(MODELS) else f" --models {','.join(c.name for c in job.cards)}"
    )
    return f"run 'python -m tools.pipeline {step} --out {job.out}{names}' first"


def _job(out: Path, models: str, threads: int | None, force: bool) -> Job:
    names = list(MODELS) if models == "all" else [name.strip() for name in models.split(",")]
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        raise PipelineError(
            f"--models: no model {', '.join(map(repr, unknown))}; there are {', '.join(MODELS)}"
        )
    if out.exists() and not out.is_dir():
        raise PipelineError(f"--out: {out} is not a directory")
    cards = tuple(card for card in MODELS.values() if card.name in names)
    return Job(out, cards, threads or environment.available_cores(), force)


class _Lazy:
    """Calls a function once, when its value is first asked for."""

    def __init__(self, function: Callable[[], mnist.Mnist]) -> None:
        self._function = function
        self._value: mnist.Mnist | None = None

    def __call__(self) -> mnist.Mnist:
        if self._value is None:
            self._value = self._function()
        return self._value


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """What the user can mend is said in one line and ends with exit status 2."""
    from onnxnorm.errors import OnnxNormError

    try:
        yield
    except (PipelineError, mnist.MnistError, OnnxNormError, ImportError, OSError) as error:
        console = Console(stderr=True)
        console.print("pipeline: error:", style="bold red", end=" ")
        console.print(" ".join(str(error).split()), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(_UNUSABLE) from error


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:44}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


def _say(line: str) -> None:
    Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)


def _stdout() -> Console:
    # A pipe has no width; rich would take 80 columns and fold.
    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE, highlight=False)


def _print_json(stamps: Sequence[Stamp]) -> None:
    print(json.dumps({stamp.key["model"]: stamp.result for stamp in stamps}, indent=2))


def _print_trained(job: Job, stamps: Sequence[Stamp]) -> None:
    for card, stamp in zip(job.cards, stamps, strict=True):
        result = stamp.result
        _stdout().print(
            f"{card.name:24} {result['test_accuracy']:.2%} right on {result['test_images']} test "
            f"images, trained on {result['train_images']} in {result['seconds']:.0f} s",
            markup=False,
        )


def _print_exported(job: Job, stamps: Sequence[Stamp]) -> None:
    for card, stamp in zip(job.cards, stamps, strict=True):
        sizes = export.sizes(stamp)
        forms = ", ".join(
            f"{name} {size.nodes} nodes ({size.norm_nodes} for the norm layer)"
            for name, size in sizes.items()
        )
        _stdout().print(f"{card.name:24} {forms}", markup=False, soft_wrap=True)


def _print_result(
    summaries: Sequence[Any], found: dict[str, Any], page: Path, as_json: bool
) -> None:
    from tools import summary, table

    if as_json:
        print(json.dumps(found, indent=2))
    else:
        console = _stdout()
        rows = [row for s in summaries for row in summary.rows(s)]
        for part in table.terminal_tables(rows, console.width):
            console.print(part)
            console.print()
        for line in summary.notes(summaries):
            console.print(line, markup=False, style="dim")
        console.print(f"report page: {page}", markup=False, soft_wrap=True)
    for failure in found["failures"]:
        console = Console(stderr=True)
        console.print("failed:", style="bold red", end=" ")
        console.print(failure, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    app(prog_name="python -m tools.pipeline")
