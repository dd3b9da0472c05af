"""What a verification found, for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from onnxnorm.json_text import json_text
from onnxnorm.parity.comparison import Criterion, OutputRecord

_CRITERION = (
    "ONNX Runtime's largest and mean error against the float64 oracle, in ULP of the output's "
    "dtype, are each at most multiple times Keras' own plus floor_ulp; see docs/parity.md"
)


@dataclass(frozen=True)
class InputRecord:
    """One input that the parties were run on."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """A verification; true when every output passed.

    Attributes:
        model: the Keras model's name.
        onnx_file: the ONNX file's name, without its folder.
        outputs: one record for each output.
        inputs: what the parties were run on.
        sizes: by ``input:axis``, the sizes of drawn inputs that neither the model nor the file
            states, apart from the number of samples.
        seed: seed of the inputs; None when the caller gave them.
        criterion: the numbers judged by.
        precision: the coarsest float dtype that the Keras model computes in.
        native_library: whether the native library was there to run the file's ``onnxnorm`` nodes.
        notes: what a reader should know besides.
        versions: version of each library that took part.
    """

    model: str
    onnx_file: str
    outputs: tuple[OutputRecord, ...]
    inputs: tuple[InputRecord, ...]
    sizes: Mapping[str, int]
    seed: int | None
    criterion: Criterion
    precision: str
    native_library: bool
    notes: tuple[str, ...]
    versions: Mapping[str, str]

    @property
    def passed(self) -> bool:
        """Whether every output passed."""
        return all(output.passed for output in self.outputs)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """The verdict, one line for each output, and the notes."""
        return "\n".join(self.lines)

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of the summary; names in it may have line ends of their own."""
        verdict = "in parity with" if self.passed else "NOT in parity with"
        return (
            f"{self.onnx_file}: {verdict} {self.model}",
            *(f"  {output}" for output in self.outputs),
            *(f"  note: {note}" for note in self.notes),
        )

    def to_json(self) -> str:
        """The whole report as JSON; its fields are those of this class and its records."""
        content = {
            "passed": self.passed,
            "model": self.model,
            "onnx_file": self.onnx_file,
            "native_library": self.native_library,
            "precision": self.precision,
            "seed": self.seed,
            "criterion": {"statement": _CRITERION, **asdict(self.criterion)},
            "inputs": [asdict(record) for record in self.inputs],
            "sizes": dict(self.sizes),
            "outputs": [asdict(record) for record in self.outputs],
            "notes": list(self.notes),
            "versions": dict(self.versions),
        }
        return json_text(content)
