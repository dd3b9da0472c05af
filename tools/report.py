"""The report page: one HTML file that needs nothing besides itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools import figures, mnist, summary, table
from tools.steps import train, verify, workspace
from tools.steps.export import CUSTOM, FORMS
from tools.summary import ModelSummary
from tools.templating import template

TEMPLATE = "report.html.j2"

EASY_DIGITS = 5
HARD_DIGITS = 9


@dataclass(frozen=True)
class Answer:
    """What one model says of one image.

    Attributes:
        digit: the most probable one.
        probability: of that digit.
        right: whether it is the label.
        agrees: whether TensorFlow gives the same digit.
    """

    digit: int
    probability: float
    right: bool
    agrees: bool


@dataclass(frozen=True)
class Digit:
    """An image of the test set and what the models say of it.

    Attributes:
        index: in the test set.
        label: what it is.
        picture: a PNG as a data URI.
        answers: of ONNX Runtime in the custom form, in the order of the models.
    """

    index: int
    label: int
    picture: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class LayerLine:
    """The race of one normalization layer alone, as it is written in the page."""

    model: str
    norm_class: str
    nodes: Mapping[str, int]
    cells: Mapping[str, table.Cell]
    times_faster: str


def write(
    path: Path,
    summaries: Sequence[ModelSummary],
    folders: Mapping[str, Path],
    data: mnist.Mnist,
) -> None:
    """Writes the page aside and renames it.

    Args:
        path: of the HTML file.
        summaries: of the models, in the order of the table.
        folders: where each model's predictions are, by its name.
        data: all of MNIST, for the pictures.
    """
    page = render(summaries, digits(summaries, folders, data))
    with workspace.replacing(path) as aside:
        aside.write_text(page, encoding="utf-8")


def render(summaries: Sequence[ModelSummary], shown: Sequence[Digit]) -> str:
    """The page as text."""
    rows = [(s, row) for s in summaries for row in summary.rows(s)]
    return template(TEMPLATE).render(
        summaries=summaries,
        failures=[failure for s in summaries for failure in s.failures],
        columns=table.COLUMNS,
        rows=[(row, table.cells(row)) for _, row in rows],
        notes=summary.notes(summaries),
        layers=[_layer_line(s) for s in summaries],
        parties=[(party, figures.LABELS[party]) for party in figures.COLORS],
        parity=[
            (s.card.name, form, s.parity[form.name], summary.verdict(s, form))
            for s in summaries
            for form in FORMS
        ],
        parity_images=summaries[0].parity[CUSTOM.name]["inputs"][0]["shape"][0],
        errors=figures.errors(summaries),
        curves=figures.curves(summaries),
        latencies=figures.latencies(summaries),
        raced=bool(summaries[0].verification.network.timings),
        digits=shown,
        form=CUSTOM,
        images=summaries[0].verification.images,
        environment=summaries[0].verification.environment,
        wanted=summary.ACCURACY_WANTED,
        percent_of_all=table.percent_of_all,
    )


def digits(
    summaries: Sequence[ModelSummary], folders: Mapping[str, Path], data: mnist.Mnist
) -> list[Digit]:
    """The first images of the test set, then those that most of the models get wrong."""
    names = [s.card.name for s in summaries]
    of_runtime = {name: verify.predictions(folders[name])[CUSTOM.name] for name in names}
    of_keras = {name: train.predictions(folders[name]) for name in names}
    count = min(len(probabilities) for probabilities in of_runtime.values())
    labels = data.test_labels[:count]
    chosen = choose([of_runtime[name][:count] for name in names], labels)
    return [
        Digit(
            index=index,
            label=int(labels[index]),
            picture=_png(data.test_images[index]),
            answers=tuple(
                _answer(of_runtime[name][index], of_keras[name][index], int(labels[index]))
                for name in names
            ),
        )
        for index in chosen
    ]


def choose(probabilities: Sequence[NDArray[np.float32]], labels: NDArray[np.int64]) -> list[int]:
    """Indices of the images to show: a few ordinary ones, then the hardest.

    Hard is what most models get wrong, and among those what they are surest of.

    Args:
        probabilities: of each model, float32 (images, 10).
        labels: int64 (images).
    """
    wrong = sum((p.argmax(axis=1) != labels).astype(np.float64) for p in probabilities)
    sure: NDArray[Any] = np.mean([p.max(axis=1) for p in probabilities], axis=0)
    easy = list(range(min(EASY_DIGITS, len(labels))))
    order = np.lexsort((-sure, -np.asarray(wrong)))
    hard = [int(i) for i in order if np.asarray(wrong)[i] > 0 and int(i) not in easy]
    return easy + hard[:HARD_DIGITS]


def _answer(found: NDArray[np.float32], expected: NDArray[np.float32], label: int) -> Answer:
    digit = int(found.argmax())
    return Answer(digit, float(found[digit]), digit == label, digit == int(expected.argmax()))


def _png(image: NDArray[np.float32]) -> str:
    from PIL import Image

    file = io.BytesIO()
    # Ink is 1 in the data and black on the page.
    Image.fromarray(np.rint(255 * (1 - image)).astype(np.uint8)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _layer_line(s: ModelSummary) -> LayerLine:
    race = s.verification.layer
    faster = race.times_faster.get(CUSTOM.name)
    return LayerLine(
        model=s.card.name,
        norm_class=s.card.norm_class,
        nodes={form.name: s.sizes[form.name].layer_nodes for form in FORMS},
        cells={party: table.latency(race.timings.get(party)) for party in figures.COLORS},
        times_faster="-" if faster is None else f"{faster:.1f}×",
    )
