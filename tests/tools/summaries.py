"""A summary made by hand, good in every respect, for tests to spoil."""

from __future__ import annotations

from typing import Any

from models import MODELS
from onnxnorm.latency import Timing
from tools.environment import Environment
from tools.steps.export import FORMS, GraphSize
from tools.steps.train import TrainSettings
from tools.steps.verify import ERROR_BINS, Agreement, Race, Verification
from tools.summary import ModelSummary

PARTIES = ("tensorflow", *(form.name for form in FORMS))


def agreement(**changes: Any) -> Agreement:
    values: dict[str, Any] = {
        "accuracy": 0.98,
        "top1_agreement": 1.0,
        "largest_error": 1e-6,
        "mean_error": 1e-8,
        "exact": 7,
        "histogram": tuple(range(len(ERROR_BINS) - 1)),
        "in_parity": True,
    }
    return Agreement(**values | changes)


def summary(
    name: str = "group_norm",
    settings: TrainSettings | None = None,
    tensorflow_accuracy: float = 0.98,
    raced: bool = True,
    **changes: Any,
) -> ModelSummary:
    """A summary whose custom form has the given changes."""
    timings = {party: Timing(1.5, 1.25, 1.75, 120) for party in PARTIES}
    race = Race(timings, dict.fromkeys(PARTIES, 2.0)) if raced else Race({}, {})
    errors = {"max_ulp": 3.0, "mean_ulp": 0.5, "nonfinite_mismatches": 0}
    output = {"passed": True, "allowed_max_ulp": 28.0, "keras": errors, "onnxruntime": errors}
    agreements = {form.name: agreement() for form in FORMS} | {"custom": agreement(**changes)}
    return ModelSummary(
        card=MODELS[name],
        settings=TrainSettings() if settings is None else settings,
        trained={"train_images": 60_000},
        history={key: [0.5, 0.25] for key in ("loss", "accuracy", "test_loss", "test_accuracy")},
        sizes={form.name: GraphSize(29, 19, {"Conv": 1}, 17, 1000, 1.5) for form in FORMS},
        verification=Verification(
            images=10_000,
            tensorflow_accuracy=tensorflow_accuracy,
            agreements=agreements,
            network=race,
            layer=race,
            layer_shape=(64, 26, 26, 10),
            threads=2,
            environment=Environment("2024-01-02T03:04:05+00:00", "a processor", "Linux", {}),
        ),
        parity={
            form.name: {"outputs": [output], "inputs": [{"shape": [256, 28, 28]}]} for form in FORMS
        },
    )
