"""Contestants that take turns, each in a process of its own; the others are stopped meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np

from tools import checkout
from tools.bench import network_files, tensors
from tools.bench.cases import Layer, Network, Subject
from tools.bench.results import Entry

_PATIENCE = 300
# Every allocation on huge pages, none given back: a result of many megabytes that is allocated for
# each call, as PyTorch does, otherwise takes ten times as long as its computation.
_TUNABLES = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold={0}:glibc.malloc.trim_threshold={0}"
_ENVIRONMENT = {"GLIBC_TUNABLES": _TUNABLES.format(2**36)}
_NETWORK_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Contestant:
    """Who runs what.

    Attributes:
        peer: a module of `tools.bench.peers`.
        form: in which of the peer's ways.
        subject: the layer or network.
    """

    peer: str
    form: str
    subject: Subject


@dataclass(frozen=True)
class Pace:
    """How long a race takes.

    Attributes:
        rounds: turns that each gets; one more before them does not count.
        seconds: that a turn takes, after its warm-up and at least one call.
    """

    rounds: int
    seconds: float


class PeerError(Exception):
    """A peer's process is gone or does not answer."""


class Process:
    """A worker, stopped unless it is asked something."""

    def __init__(self, peer: str, processors: Sequence[int]) -> None:
        self._pipe, other = Pipe()
        command = [sys.executable, "-m", "tools.bench.worker", str(other.fileno()), peer]
        self._process = subprocess.Popen(
            [*command, ",".join(map(str, processors))],
            cwd=checkout.ROOT,
            env={**os.environ, **_ENVIRONMENT},
            pass_fds=[other.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        other.close()
        try:
            self.failure: str | None = self._answer()
        except PeerError as error:
            self.failure = str(error)

    def ask(self, method: str, *arguments: Any) -> Any:
        """What the worker's method returns.

        Raises:
            PeerError: it returns nothing.
        """
        if self.failure is not None:
            raise PeerError(self.failure)
        try:
            self._process.send_signal(signal.SIGCONT)
            self._pipe.send((method, arguments))
        except OSError as error:
            raise PeerError("its process is gone") from error
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        self._pipe.close()

    def _answer(self) -> Any:
        try:
            if not self._pipe.poll(_PATIENCE):
                raise PeerError(f"no answer in {_PATIENCE} s")
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            code = self._process.wait()
            raise PeerError(f"its process ended with {code}") from error
        # Its threads may still spin, at the cost of whoever is next.
        self._process.send_signal(signal.SIGSTOP)
        return answer


class Course:
    """The processes of contestants, which serve race after race.

    Args:
        processors: of each process, a thread on each.
        files: folder of the ONNX files.
    """

    def __init__(self, processors: Sequence[int], files: Path) -> None:
        self.processors = tuple(processors)
        self._files = files
        self._processes: dict[tuple[str, str], Process] = {}

    def __enter__(self) -> Course:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            with suppress(OSError):
                process.close()

    def process(self, label: str, peer: str) -> Process:
        """The one that plays a contestant's part."""
        if (label, peer) not in self._processes:
            self._processes[label, peer] = Process(peer, self.processors)
        return self._processes[label, peer]

    def race(self, contestants: Mapping[str, Contestant], pace: Pace) -> dict[str, Entry]:
        """Checks what each computes, then times those that are right, in turns drawn anew.

        Returns:
            By label: the median of each round, in milliseconds, or why there is none.
        """
        entries: dict[str, Entry] = {}
        for label, contestant in contestants.items():
            entries[label] = self._checked(label, contestant)
        runners = [label for label, entry in entries.items() if not entry.failure]
        times: dict[str, list[float]] = {label: [] for label in runners}
        generator = np.random.default_rng(0)
        for count in range(1 + pace.rounds):
            for label in generator.permutation(runners) if runners else ():
                process = self.process(label, contestants[label].peer)
                turn = process.ask("turn", pace.seconds)
                if count:
                    times[label].append(float(np.median(turn)))
        return {
            label: Entry(tuple(times.get(label, ())), entry.error, entry.failure)
            for label, entry in entries.items()
        }

    def _checked(self, label: str, contestant: Contestant) -> Entry:
        subject = contestant.subject
        try:
            process = self.process(label, contestant.peer)
            found = process.ask("prepare", subject, contestant.form, self._files)
        except PeerError as error:
            return Entry((), None, f"cannot: {error}")
        if isinstance(found, str):
            return Entry((), None, f"cannot: {found}")
        if isinstance(subject, Layer):
            wanted, allowed = tensors.expected(subject), tensors.tolerance(subject.element)
        else:
            wanted, allowed = _of_network(subject, self._files)
        return Entry((), *tensors.judge(found, wanted, allowed))


def _of_network(network: Network, files: Path) -> tuple[Any, float]:
    _, exact = network_files.tensors(network, files)
    return tensors.samples(exact), _NETWORK_TOLERANCE * float(np.abs(exact).max())


def processors(threads: int) -> tuple[int, ...]:
    """The first of those that this process may use."""
    return tuple(sorted(os.sched_getaffinity(0))[:threads])
