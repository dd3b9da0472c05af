"""What the pipeline found, put together from the stamps: the table's rows and the verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from models import ModelCard
from onnxnorm.latency import Timing
from tools.steps import export, train, verify
from tools.steps.export import FORMS, PLAIN, Form, GraphSize
from tools.steps.train import TrainSettings
from tools.steps.verify import Verification
from tools.steps.workspace import Stamp

ACCURACY_WANTED = 0.975
LARGEST_ERROR_ALLOWED = 1e-4

# "as plain": beyond the criterion of onnxnorm.verify, yet no further from the float64 oracle than
# the plain graph. That is as good as ONNX Runtime's own operators are, and a form that is made of
# nothing else is not failed for it.
Verdict = Literal["pass", "as plain", "FAIL"]


@dataclass(frozen=True)
class ModelSummary:
    """Everything that is known of one model.

    Attributes:
        card: which model.
        settings: how it was trained.
        trained: what training noted.
        history: loss and accuracy on both sets, one value for each epoch.
        sizes: of its graphs, by form.
        verification: how the forms compare with TensorFlow.
        parity: the reports of `onnxnorm.verify`, by form.
    """

    card: ModelCard
    settings: TrainSettings
    trained: Mapping[str, Any]
    history: Mapping[str, Sequence[float]]
    sizes: Mapping[str, GraphSize]
    verification: Verification
    parity: Mapping[str, Mapping[str, Any]]

    @property
    def failures(self) -> tuple[str, ...]:
        """Why this model is not good, one line each; empty when it is."""
        return tuple(_failures(self))


@dataclass(frozen=True)
class Row:
    """One line of the table: a model in one of our forms beside the plain graph.

    Attributes:
        model: name.
        form: name.
        nodes_before: of the plain tf2onnx graph.
        nodes_after: of ours.
        norm_nodes_before: what the normalization layer adds to the plain graph.
        norm_nodes_after: what it adds to ours.
        accuracy_tensorflow: on the test images, from 0 to 1.
        accuracy_onnxruntime: the same in ONNX Runtime.
        top1_agreement: part of the test images with the same answer.
        largest_error: of a probability.
        latency: milliseconds for a batch, by `tensorflow`, `plain` and `ours`; empty when not
            measured.
        times_faster: ours than the plain graph.
        verdict: whether this form is in parity.
    """

    model: str
    form: str
    nodes_before: int
    nodes_after: int
    norm_nodes_before: int
    norm_nodes_after: int
    accuracy_tensorflow: float
    accuracy_onnxruntime: float
    top1_agreement: float
    largest_error: float
    latency: Mapping[str, Timing]
    times_faster: float | None
    verdict: Verdict


def summarize(
    card: ModelCard, folder: Path, trained: Stamp, exported: Stamp, verified: Stamp
) -> ModelSummary:
    """The summary of one model from the stamps and files of its folder."""
    return ModelSummary(
        card,
        TrainSettings(**trained.key["settings"]),
        trained.result,
        json.loads((folder / train.HISTORY_FILE).read_text()),
        export.sizes(exported),
        verify.verification(verified),
        {form.name: json.loads((folder / verify.parity_file(form)).read_text()) for form in FORMS},
    )


def rows(summary: ModelSummary) -> list[Row]:
    """One row for each of our forms."""
    return [_row(summary, form) for form in FORMS if form.ours]


def as_json(summaries: Sequence[ModelSummary]) -> dict[str, Any]:
    """Rows and verdict for programs."""
    return {
        "passed": not any(summary.failures for summary in summaries),
        "failures": [failure for summary in summaries for failure in summary.failures],
        "rows": [asdict(row) for summary in summaries for row in rows(summary)],
        "layer_alone": {
            summary.card.name: {
                "shape": summary.verification.layer_shape,
                **asdict(summary.verification.layer),
            }
            for summary in summaries
        },
        "environment": {
            summary.card.name: asdict(summary.verification.environment) for summary in summaries
        },
    }


def verdict(summary: ModelSummary, form: Form) -> Verdict:
    """Whether one of our forms is in parity with TensorFlow."""
    if form_failures(summary, form):
        return "FAIL"
    return "pass" if summary.verification.agreements[form.name].in_parity else "as plain"


def form_failures(summary: ModelSummary, form: Form) -> list[str]:
    """Why a form is not in parity with TensorFlow; empty when it is."""
    found = summary.verification.agreements[form.name]
    who = f"{summary.card.name} ({form.name})"
    failures = []
    if not found.in_parity and not _as_plain(summary, form):
        failures.append(f"{who}: onnxnorm.verify does not find it in parity")
    if found.top1_agreement < 1:
        different = round((1 - found.top1_agreement) * summary.verification.images)
        failures.append(f"{who}: another answer than TensorFlow's on {different} test images")
    if not found.largest_error <= LARGEST_ERROR_ALLOWED:
        failures.append(
            f"{who}: a probability differs by {found.largest_error:.1e}, "
            f"more than {LARGEST_ERROR_ALLOWED:.0e}"
        )
    return failures


def _as_plain(summary: ModelSummary, form: Form) -> bool:
    if form.needs_library:
        return False
    ours, plain = summary.parity[form.name]["outputs"], summary.parity[PLAIN.name]["outputs"]
    return all(
        mine["onnxruntime"][error] <= theirs["onnxruntime"][error]
        for mine, theirs in zip(ours, plain, strict=True)
        for error in ("max_ulp", "mean_ulp", "nonfinite_mismatches")
    )


def _failures(summary: ModelSummary) -> list[str]:
    failures = [line for form in FORMS if form.ours for line in form_failures(summary, form)]
    accuracies = {"TensorFlow": summary.verification.tensorflow_accuracy} | {
        f"ONNX Runtime ({form.name})": summary.verification.agreements[form.name].accuracy
        for form in FORMS
        if form.ours
    }
    # A slice of the data is for trying the pipeline out; nothing is asked of its accuracy.
    if summary.settings.full_data:
        failures += [
            f"{summary.card.name}: {accuracy:.2%} right on the test set in {where}, "
            f"less than {ACCURACY_WANTED:.1%}"
            for where, accuracy in accuracies.items()
            if accuracy < ACCURACY_WANTED
        ]
    return failures


def _row(summary: ModelSummary, form: Form) -> Row:
    before, after = summary.sizes[PLAIN.name], summary.sizes[form.name]
    found, race = summary.verification.agreements[form.name], summary.verification.network
    parties = {"tensorflow": verify.TENSORFLOW, "plain": PLAIN.name, "ours": form.name}
    return Row(
        model=summary.card.name,
        form=form.name,
        nodes_before=before.nodes,
        nodes_after=after.nodes,
        norm_nodes_before=before.norm_nodes,
        norm_nodes_after=after.norm_nodes,
        accuracy_tensorflow=summary.verification.tensorflow_accuracy,
        accuracy_onnxruntime=found.accuracy,
        top1_agreement=found.top1_agreement,
        largest_error=found.largest_error,
        latency={
            name: race.timings[party] for name, party in parties.items() if party in race.timings
        },
        times_faster=race.times_faster.get(form.name),
        verdict=verdict(summary, form),
    )


def notes(summaries: Sequence[ModelSummary]) -> list[str]:
    """What a reader of the table has to know: how its numbers were made."""
    first = summaries[0].verification
    versions = ", ".join(f"{name} {value}" for name, value in first.environment.versions.items())
    threads = sorted({s.verification.threads for s in summaries})
    lines = [
        "before: the graph that tf2onnx makes of the model today (plain). Norm nodes: how many "
        "more nodes than tf2onnx makes of the same network without its normalization layer.",
        f"accuracy, agreement and largest error of a probability: over {first.images} test images.",
        f"latency: one batch of {verify.LATENCY_BATCH} images, numpy array to numpy array, "
        f"{' or '.join(map(str, threads))} threads each; TensorFlow runs the model as one "
        "tf.function; median and quartiles of calls in turns within one process; 'ours vs plain' "
        "is the median over rounds of the ratio within a round.",
        "parity: the criterion of onnxnorm.verify; 'as plain' is a form of standard operators "
        "beyond it, but no further from the float64 oracle than the plain graph.",
        f"{first.environment.processor}, {first.environment.system}; {versions}.",
    ]
    return lines
