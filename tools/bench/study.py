"""A whole run: files, races, profiles."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tools import environment
from tools.bench import contests, network_files
from tools.bench.cases import EPILOGUES, LAYOUTS, OPERATORS, SERIES, Layer, Network
from tools.bench.race import Contestant, Course, Pace, PeerError, processors
from tools.bench.results import Race, Report, Share

KINDS = ("operators", "epilogues", "series", "networks")


@dataclass(frozen=True)
class Settings:
    """What is run, and how long.

    Attributes:
        kinds: of `KINDS`.
        threads: each race is run with so many, one after the other.
        operators, epilogues, series, networks: pace of the races of a kind.
        quick: of series and networks only a few.
    """

    kinds: tuple[str, ...]
    threads: tuple[int, ...]
    operators: Pace
    epilogues: Pace
    series: Pace
    networks: Pace
    quick: bool


def full(kinds: tuple[str, ...], threads: tuple[int, ...]) -> Settings:
    """Settings for a quarter of an hour on two cores."""
    operators, epilogues, series, networks = (
        Pace(15, 0.02),
        Pace(9, 0.02),
        Pace(7, 0.01),
        Pace(7, 0.06),
    )
    return Settings(kinds, threads, operators, epilogues, series, networks, quick=False)


def quick(kinds: tuple[str, ...], threads: tuple[int, ...]) -> Settings:
    """Settings for three minutes: a few rounds, with the most threads, of a few networks."""
    few = Pace(5, 0.01)
    return Settings(kinds, threads[-1:], few, few, Pace(3, 0.005), Pace(3, 0.02), quick=True)


def run(settings: Settings, say: Callable[[str], None]) -> Report:
    """Runs all races."""
    start = time.perf_counter()
    races: list[Race] = []
    peaks: dict[str, float] = {}
    shares: list[Share] = []
    with tempfile.TemporaryDirectory(prefix="onnxnorm-bench-") as name:
        files = Path(name)
        networks = contests.QUICK_NETWORKS if settings.quick else contests.NETWORKS
        say("converting ...")
        _write_files(files, settings, networks)
        for threads in settings.threads:
            for kind in settings.kinds:
                # Each kind has other contestants, whose processes hold memory.
                with Course(processors(threads), files) as course:
                    if kind == "operators":
                        peaks |= _peak(course)
                    for race in _races(kind, settings, networks):
                        elapsed = (time.perf_counter() - start) / 60
                        say(f"{elapsed:4.1f} min  {kind}, {threads} threads: {race.subject}")
                        races.append(race.run(course))
                    if kind == "networks":
                        shares += _shares(course, files, networks)
    return Report(
        environment.describe(),
        {kind: asdict(getattr(settings, kind)) for kind in settings.kinds},
        time.perf_counter() - start,
        tuple(races),
        peaks,
        tuple(shares),
    )


@dataclass(frozen=True)
class _Planned:
    kind: str
    subject: str
    contestants: Mapping[str, Contestant]
    pace: Pace
    bytes: int = 0
    layout: str = ""
    x: int = 0

    def run(self, course: Course) -> Race:
        entries = course.race(self.contestants, self.pace)
        threads = len(course.processors)
        return Race(self.kind, self.subject, threads, self.bytes, entries, self.layout, self.x)


def _races(kind: str, settings: Settings, networks: Sequence[Network]) -> list[_Planned]:
    pace: Pace = getattr(settings, kind)
    if kind == "operators":
        return [
            _of_layer("operator", layer, contests.operator(layer), pace) for layer in _operators()
        ]
    if kind == "epilogues":
        layers = EPILOGUES[: 1 if settings.quick else None]
        return [_of_layer("epilogue", layer, contests.epilogue(layer), pace) for layer in layers]
    if kind == "series":
        return [
            _of_layer(name, layer, contests.series(layer), pace, x)
            for name, points in SERIES.items()
            for x, layer in points[:: 3 if settings.quick else 1]
        ]
    return [_Planned("network", n.title, contests.network(n), pace) for n in networks]


def _of_layer(
    kind: str, layer: Layer, contestants: Mapping[str, Contestant], pace: Pace, x: int = 0
) -> _Planned:
    layout = "" if x else layer.layout
    return _Planned(kind, layer.title, contestants, pace, layer.bytes, layout, x)


def _operators() -> list[Layer]:
    return [layer.stored(layout) for layout in LAYOUTS for layer in OPERATORS]


def _peak(course: Course) -> dict[str, float]:
    label = next(iter(contests.TORCH.values()))
    try:
        return {str(len(course.processors)): course.process(label, "torch").ask("measure", "peak")}
    except PeerError:
        return {}


def _shares(course: Course, files: Path, networks: Sequence[Network]) -> list[Share]:
    process = course.process("profiler", "onnxruntime")
    return [
        Share(
            network.title,
            form,
            len(course.processors),
            process.ask("measure", "norm_share", network, form, files),
        )
        for network in contests.SHARES
        if network in networks
        for form in (network_files.OPTIMIZED, network_files.THIS_CPU)
    ]


def _write_files(folder: Path, settings: Settings, networks: Sequence[Network]) -> None:
    # TensorFlow keeps its memory and its threads: a process of its own.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        if "operators" in settings.kinds:
            pool.submit(network_files.write_layers, folder, _operators()).result()
        if "networks" in settings.kinds:
            for name, batches in _batches(networks).items():
                pool.submit(network_files.write_network, folder, name, batches).result()


def _batches(networks: Sequence[Network]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for contest in networks:
        for contestant in contests.network(contest).values():
            subject = contestant.subject
            own = found.setdefault(subject.name, [])
            if subject.batch not in own:
                own.append(subject.batch)
    return found
