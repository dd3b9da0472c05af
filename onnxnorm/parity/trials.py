"""Keras and the oracle on the inputs that a verification uses; drawn ones of sizes that serve."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxnorm.errors import VerificationError
from onnxnorm.parity import oracle
from onnxnorm.parity import sizes as unknown
from onnxnorm.parity import subject as subjects
from onnxnorm.parity.comparison import FLOATS
from onnxnorm.parity.inputs import InputSpec, draw
from onnxnorm.parity.sizes import Dimension, Sizes

Array = npt.NDArray[Any]

# Samples with which sizes are looked for; a single one would hide what depends on the batch.
_FEW = 2
# Elements of the largest input where no caller named its sizes; beyond, there are fewer samples.
_MOST_ELEMENTS = 2**20
# Elements of an input that a caller can ask for: 2 GB of them are drawn in float64.
_MOST_DRAWN = 2**28


@dataclass(frozen=True)
class Trial:
    """One run of Keras and of the oracle.

    Attributes:
        inputs: what they were run on.
        keras: Keras' outputs.
        exact: what the oracle found.
        sizes: the sizes chosen for unknown dimensions, batches apart.
        samples: the size chosen for batches; None where none was.
    """

    inputs: Sequence[Array]
    keras: Sequence[Array]
    exact: oracle.Exact
    sizes: Sizes
    samples: int | None = None

    def unjudgeable(self) -> dict[int, str]:
        """Outputs in which there is nothing to compare, by position, and why."""
        found = {}
        for position, (own, exact) in enumerate(zip(self.keras, self.exact.outputs, strict=True)):
            if not own.size:
                found[position] = "has no element"
            elif own.dtype.name in FLOATS and not (_any_finite(own) or _any_finite(exact)):
                found[position] = "holds no finite number"
        return found

    @property
    def serves(self) -> bool:
        """Whether every difference on these inputs is a fault."""
        return not self.exact.emptied and not self.unjudgeable()


def on_inputs(subject: subjects.Subject, inputs: Sequence[Array]) -> Trial:
    """Keras and the oracle on these inputs.

    Raises:
        VerificationError: one of them cannot compute the model on these.
    """
    keras = subjects.run(subject, inputs)
    return Trial(inputs, keras, oracle.evaluate(subject.function, inputs), {})


def on_drawn(
    subject: subjects.Subject,
    specs: Sequence[InputSpec],
    dimensions: Sequence[Dimension],
    sizes: Mapping[str, int],
    samples: int,
    seed: int,
) -> Trial:
    """Keras and the oracle on random inputs, of the first sizes on which every difference counts.

    Where there are none such, of the first on which Keras computes the model at all.

    Args:
        subject: the model.
        specs: its inputs, with the sizes that the model or the file states.
        dimensions: every dimension of unknown size.
        sizes: those that the caller names; see `sizes.given`.
        samples: size of batches.
        seed: seed of the inputs.

    Raises:
        VerificationError: Keras computes the model on none of the sizes tried.
    """
    named = unknown.given(dimensions, sizes)
    free = [d for d in dimensions if d.axis and d not in named]
    has_batch = any(d.axis == 0 and d not in named for d in dimensions)

    def run(chosen: Sizes, batch: int) -> Trial:
        all_sizes = {**named, **chosen}
        sized = _sized(specs, all_sizes)
        _check_amount(sized, batch)
        trial = on_inputs(subject, draw(sized, batch, seed))
        return replace(trial, sizes=all_sizes, samples=batch if has_batch else None)

    second_best: Trial | None = None
    failures: list[subjects.KerasError | oracle.EmptiedError] = []
    for chosen, batch in _plan(free, subject.named_sizes, samples, has_batch):
        try:
            trial = run(chosen, batch)
        except (subjects.KerasError, oracle.EmptiedError) as error:
            failures.append(error)
            continue
        if trial.serves:
            more = min(samples, _MOST_ELEMENTS * batch // max(a.size for a in trial.inputs))
            return _larger(run, trial, chosen, more) if has_batch and batch < more else trial
        second_best = second_best or trial
    if second_best:
        return second_best
    options = " ".join(f"--size {dimension}=N" for dimension in dimensions if dimension.axis)
    if not options:
        raise failures[0]
    raise VerificationError(
        f"model {subject.name!r} cannot be computed on random inputs of any of the {len(failures)} "
        f"sizes tried; on the first: {failures[0].reason}; name sizes that it takes ({options}; in "
        "Python: sizes), or pass inputs"
    ) from failures[0]


def _plan(
    free: Sequence[Dimension], hints: Sequence[int], samples: int, has_batch: bool
) -> Iterator[tuple[Sizes, int]]:
    """Sizes and numbers of samples to try."""
    first, *others = unknown.tries(free, hints)
    yield first, samples
    yield from ((sizes, min(samples, _FEW)) for sizes in others)
    if has_batch and samples > 1:  # for models that take no batch
        yield from ((sizes, 1) for sizes in itertools.islice(unknown.tries(free, hints), 4))


def _larger(run: Any, trial: Trial, chosen: Sizes, samples: int) -> Trial:
    """The same sizes with more samples, where these serve as well."""
    try:
        larger: Trial = run(chosen, samples)
    except (subjects.KerasError, oracle.EmptiedError):
        return trial
    return larger if larger.serves else trial


def _sized(specs: Sequence[InputSpec], sizes: Sizes) -> list[InputSpec]:
    """The inputs with these sizes in their shapes."""
    by_place = {(dimension.input, dimension.axis): size for dimension, size in sizes.items()}
    return [
        replace(
            spec,
            shape=spec.shape
            and tuple(by_place.get((spec.name, a), size) for a, size in enumerate(spec.shape)),
        )
        for spec in specs
    ]


def _check_amount(specs: Sequence[InputSpec], samples: int) -> None:
    for spec in specs:
        if math.prod(size or samples for size in spec.shape or ()) > _MOST_DRAWN:
            raise VerificationError(
                f"input {spec.name!r} for {samples} samples has more than {_MOST_DRAWN} elements, "
                "the most that are drawn: ask for fewer samples or smaller sizes, or pass inputs"
            )


def _any_finite(values: Array) -> bool:
    return bool(np.isfinite(values.astype(np.float64)).any())
