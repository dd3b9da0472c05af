"""What the races found: records that are written as JSON, and the ratios in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tools.environment import Environment
from tools.steps import workspace

SCHEMA = 1


@dataclass(frozen=True)
class Entry:
    """One contestant of a race.

    Attributes:
        times: milliseconds of a call: the median of each round's turn; empty after a failure.
        error: largest one against the float64 oracle, over samples of the output.
        failure: why it was not timed.
    """

    times: tuple[float, ...]
    error: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class Race:
    """Contestants on one subject.

    Attributes:
        kind: `operator`, `epilogue`, `network`, or a name in `cases.SERIES`.
        subject: for tables.
        threads: of each contestant.
        bytes: of the tensor; 0 of a network.
        entries: by label.
        layout: of an operator.
        x: where it stands in its series.
    """

    kind: str
    subject: str
    threads: int
    bytes: int
    entries: Mapping[str, Entry]
    layout: str = ""
    x: int = 0

    def ran(self, *labels: str) -> bool:
        """Whether all of them were timed."""
        return all(label in self.entries and self.entries[label].times for label in labels)

    def milliseconds(self, label: str) -> float | None:
        """The median over the rounds."""
        return float(np.median(self.entries[label].times)) if self.ran(label) else None

    def fastest(self, labels: Iterable[str]) -> str | None:
        """The one with the smallest median; None when none was timed."""
        ran = [label for label in labels if self.ran(label)]
        return min(ran, key=lambda label: np.median(self.entries[label].times), default=None)

    def ratio(self, of: str | None, to: str | None) -> Ratio | None:
        """Time of one to that of another, within rounds; None when one was not timed."""
        if of is None or to is None or not self.ran(of, to):
            return None
        quotients = np.divide(self.entries[of].times, self.entries[to].times)
        first, median, third = np.percentile(quotients, (25, 50, 75))
        return Ratio(float(median), float(first), float(third))


@dataclass(frozen=True)
class Ratio:
    """Median and quartiles over the rounds."""

    median: float
    first: float
    third: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.first:.2f}–{self.third:.2f})"


@dataclass(frozen=True)
class Share:
    """What part of a network's time its norms take, by ONNX Runtime's profiler."""

    network: str
    form: str
    threads: int
    norms: float


@dataclass(frozen=True)
class Report:
    """Everything that a run found.

    Attributes:
        environment: the machine and the software.
        pace: rounds and seconds of a turn, by kind of race.
        seconds: that the whole run took.
        races: all of them.
        peaks: floating-point operations in a second of a large convolution, by threads.
        shares: of norms in networks.
    """

    environment: Environment
    pace: Mapping[str, Any]
    seconds: float
    races: tuple[Race, ...]
    peaks: Mapping[str, float] = field(default_factory=dict)
    shares: tuple[Share, ...] = ()

    def of(self, kind: str) -> list[Race]:
        """The races of one kind."""
        return [race for race in self.races if race.kind == kind]


def write(report: Report, path: Path) -> None:
    """Writes a report aside and renames it."""
    workspace.write_json(path, {"schema": SCHEMA, **asdict(report)})


def read(path: Path) -> Report:
    """A report that `write` has written.

    Raises:
        ValueError: the file is none.
    """
    try:
        content = json.loads(path.read_text())
        if content.pop("schema") != SCHEMA:
            raise ValueError("of another version")
        environment = Environment(**content.pop("environment"))
        races = tuple(_race(race) for race in content.pop("races"))
        shares = tuple(Share(**share) for share in content.pop("shares"))
        return Report(environment, races=races, shares=shares, **content)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no results of tools.bench: {error}") from error


def _race(content: dict[str, Any]) -> Race:
    entries = {
        label: Entry(tuple(entry["times"]), entry["error"], entry["failure"])
        for label, entry in content.pop("entries").items()
    }
    return Race(entries=entries, **content)
