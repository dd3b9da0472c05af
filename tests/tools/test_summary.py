"""The verdict: what makes a model not good, and what does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.tools.summaries import summary
from tools import summary as summaries
from tools import table
from tools.steps.train import TrainSettings
from tools.summary import ModelSummary


def test_a_good_model_has_no_failures() -> None:
    assert summary().failures == ()
    assert summaries.as_json([summary()])["passed"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"in_parity": False}, "onnxnorm.verify"),
        ({"top1_agreement": 0.9997}, "on 3 test images"),
        ({"largest_error": 2e-3}, "2.0e-03"),
        ({"largest_error": float("nan")}, "nan"),
        ({"accuracy": 0.9749}, "97.49%"),
    ],
)
def test_every_fault_is_told_with_the_model_and_form(changes: dict[str, Any], words: str) -> None:
    (failure,) = summary(**changes).failures
    assert failure.startswith("group_norm")
    assert "custom" in failure
    assert words in failure
    assert not summaries.as_json([summary(), summary(**changes)])["passed"]


def test_accuracy_is_asked_of_the_full_data_only() -> None:
    assert summary(tensorflow_accuracy=0.974).failures
    for part in (TrainSettings(train_samples=100), TrainSettings(test_samples=100)):
        assert not summary(tensorflow_accuracy=0.5, accuracy=0.5, settings=part).failures


def test_rows_are_our_forms_beside_the_plain_graph() -> None:
    rows = summaries.rows(summary(largest_error=1.0))
    assert [(row.form, row.verdict) for row in rows] == [("native", "pass"), ("custom", "FAIL")]
    for row in rows:
        assert len(table.cells(row)) == len(table.COLUMNS)


@pytest.mark.parametrize(("part", "text"), [(1, "100%"), (0.99999, "99.99%"), (0.5, "50.00%")])
def test_nothing_less_than_all_is_called_all(part: float, text: str) -> None:
    assert table.percent_of_all(part) == text


def test_a_race_not_held_leaves_dashes() -> None:
    row = summaries.rows(summary(raced=False))[0]
    assert [cell.text for cell in table.cells(row)].count("-") == 4


def beyond(parity_of_plain: float) -> ModelSummary:
    """A summary whose native form is beyond the criterion, at 9 ULP."""
    found = summary()
    native = replace(found.verification.agreements["native"], in_parity=False)
    errors = {"max_ulp": 9.0, "mean_ulp": 0.5, "nonfinite_mismatches": 0}
    of_native = {"outputs": [{"onnxruntime": errors}]}
    of_plain = {"outputs": [{"onnxruntime": {**errors, "max_ulp": parity_of_plain}}]}
    agreements = {**found.verification.agreements, "native": native}
    return replace(
        found,
        verification=replace(found.verification, agreements=agreements),
        parity={**found.parity, "native": of_native, "plain": of_plain},
    )


def test_standard_operators_are_held_to_the_criterion_or_to_the_plain_graph() -> None:
    assert beyond(parity_of_plain=10.0).failures == ()
    assert [row.verdict for row in summaries.rows(beyond(10.0))] == ["as plain", "pass"]
    (failure,) = beyond(parity_of_plain=8.0).failures
    assert failure.startswith("group_norm (native): onnxnorm.verify")


def test_narrow_terminals_get_two_tables() -> None:
    rows = summaries.rows(summary())
    assert len(table.terminal_tables(rows, 200)) == 1
    first, second = table.terminal_tables(rows, 80)
    headers = [column.header for part in (first, second) for column in part.columns]
    assert {h.replace(" before", ", before") for h in headers} == set(table.COLUMNS)
