"""One peer in a process of its own, which does what is asked of it through a pipe."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from tools import checkout

    checkout.behind_installed()

from tools.bench import peers, tensors
from tools.bench.cases import Layer, Subject
from tools.bench.peers import Runner
from tools.network_study import failure_reason

_PR_SET_PDEATHSIG = 1
# Of a turn's time: brings data back into the caches, and threads out of their sleep.
_WARM_UP = 0.25
# Before the first turn: memory has been allocated for the last time, and kernels chosen.
_FIRST_SECONDS = 0.05


class Worker:
    """What is asked of a process.

    Args:
        name: of the peer.
        processors: a thread on each.
    """

    def __init__(self, name: str, processors: tuple[int, ...]) -> None:
        os.sched_setaffinity(0, processors)
        # For libraries that are built on OpenMP.
        places = ",".join(f"{{{processor}}}" for processor in processors)
        os.environ |= {"OMP_PLACES": places, "OMP_PROC_BIND": "close"}
        self.peer = peers.start(name, processors)
        self.runner: Runner | None = None

    def prepare(self, subject: Subject, form: str, files: Path) -> Any:
        """Makes the peer ready to run something, and runs it for a moment.

        Returns:
            Samples of what came out, or why nothing did.
        """
        # What it held before goes first: there is no memory for both of the largest networks.
        self.runner = None
        gc.collect()
        try:
            make = self.peer.layer if isinstance(subject, Layer) else self.peer.network
            runner = make(subject, form, files)
            runner.call()
            found = tensors.samples(runner.output())
            until = time.perf_counter() + _FIRST_SECONDS
            while time.perf_counter() < until:
                runner.call()
        except Exception as error:
            # Each library fails in its own way, and says it at length.
            return failure_reason(error)
        self.runner = runner
        return found

    def turn(self, seconds: float) -> list[float]:
        """Milliseconds of each call in so many seconds, at least one."""
        assert self.runner is not None
        call, times = self.runner.call, []
        gc.disable()
        start = time.perf_counter()
        while True:
            call()
            if time.perf_counter() - start >= _WARM_UP * seconds:
                break
        start = now = time.perf_counter()
        while not times or now - start < seconds:
            call()
            before, now = now, time.perf_counter()
            times.append((now - before) * 1e3)
        gc.enable()
        return times

    def measure(self, what: str, *arguments: Any) -> float:
        """A figure that a peer finds by itself."""
        return float(getattr(self.peer, what)(*arguments))


def main(descriptor: int, name: str, processors: tuple[int, ...]) -> None:
    """Answers until the other end of the pipe is closed."""
    # Between its turns the process is stopped: without this it would outlive a parent that dies.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    pipe = Connection(descriptor)
    try:
        worker = Worker(name, processors)
    except ImportError as error:
        pipe.send(f"not installed: {error}")
        return
    pipe.send(None)
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        pipe.send(getattr(worker, method)(*arguments))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], tuple(map(int, sys.argv[3].split(","))))
