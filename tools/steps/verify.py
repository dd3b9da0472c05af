"""Third step: do the exported files compute what the Keras model computes, and how fast."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import onnxnorm
from models import NORM_LAYER, ModelCard
from onnxnorm import latency
from onnxnorm.latency import Timing
from tools import environment, mnist, tensorflow_setup
from tools.sessions import session
from tools.steps import Advance, export, train, workspace
from tools.steps.export import FORMS, PLAIN, Form
from tools.steps.workspace import Stamp

STEP = "verify"
TENSORFLOW = "tensorflow"
PREDICTIONS_FILE = "predictions_onnxruntime.npz"

LATENCY_BATCH = 64
PARITY_IMAGES = 256
ORT_BATCH = 500

# Edges of the bins of absolute errors; errors of exactly 0 are counted apart.
ERROR_BINS: tuple[float, ...] = tuple(10.0**exponent for exponent in range(-16, 1))


@dataclass(frozen=True)
class VerifySettings:
    """What a verification depends on besides the files.

    Attributes:
        threads: of each session's pool and of TensorFlow's.
        rounds: turns that each competitor gets in the latency measurement; 0 measures none.
    """

    threads: int
    rounds: int = 30


@dataclass(frozen=True)
class Agreement:
    """One form's probabilities for the test images beside TensorFlow's.

    Attributes:
        accuracy: part of the images whose most probable digit is the label.
        top1_agreement: part of the images with the same most probable digit in both.
        largest_error: largest absolute difference of a probability.
        mean_error: mean absolute difference.
        exact: how many of the differences are exactly 0.
        histogram: how many fall into each of the bins between `ERROR_BINS`.
        in_parity: the verdict of `onnxnorm.verify`, by three parties.
    """

    accuracy: float
    top1_agreement: float
    largest_error: float
    mean_error: float
    exact: int
    histogram: tuple[int, ...]
    in_parity: bool


@dataclass(frozen=True)
class Race:
    """Latencies that were measured together.

    Attributes:
        timings: by competitor, `tensorflow` or the name of a form; empty when not measured.
        times_faster: than the plain graph, from turns in the same round.
    """

    timings: Mapping[str, Timing]
    times_faster: Mapping[str, float]


@dataclass(frozen=True)
class Verification:
    """What is known of one model at the end.

    Attributes:
        images: how many test images were compared.
        tensorflow_accuracy: on those images.
        agreements: by form.
        network: latency of a batch through the whole network.
        layer: latency of the normalization layer alone, at the size it has in the network.
        layer_shape: that size, batch included.
        threads: of each competitor.
        environment: where and when.
    """

    images: int
    tensorflow_accuracy: float
    agreements: Mapping[str, Agreement]
    network: Race
    layer: Race
    layer_shape: tuple[int, ...]
    threads: int
    environment: environment.Environment


def key(
    card: ModelCard, settings: VerifySettings, trained: Stamp, exported: Stamp
) -> dict[str, Any]:
    """Everything that a verification depends on, the machine's mood apart."""
    return {
        "model": card.name,
        "settings": asdict(settings),
        "latency_batch": LATENCY_BATCH,
        "parity_images": PARITY_IMAGES,
        "trained": dict(trained.files),
        "exported": dict(exported.files),
        "library": workspace.checksum(onnxnorm.library_path()),
        "onnxnorm": workspace.package_checksum(onnxnorm.__name__),
        "versions": environment.versions(),
    }


def verify(
    card: ModelCard,
    settings: VerifySettings,
    trained: Stamp,
    exported: Stamp,
    data: mnist.Mnist,
    folder: Path,
    advance: Advance,
) -> Stamp:
    """Compares every form with TensorFlow and races them.

    Args:
        card: which model.
        settings: how.
        trained: what training left in `folder`.
        exported: what the export left there.
        data: all of MNIST.
        folder: where the model's files are and go.
        advance: told the part that is done.

    Returns:
        A stamp whose result is a `Verification`. The report of `onnxnorm.verify` on each form lies
        beside it as `parity_<form>.json`.

    Raises:
        onnxnorm.OnnxNormError: a file cannot be run or compared.
    """
    tf = tensorflow_setup.start(settings.threads)
    used = data.first(test=trained.result["test_images"])
    probabilities = train.predictions(folder)
    model = tf.keras.models.load_model(folder / train.KERAS_FILE)
    agreements = {}
    found = {}
    for index, form in enumerate(FORMS):
        report = onnxnorm.verify(
            model, folder / form.network_file, inputs=used.test_images[:PARITY_IMAGES]
        )
        workspace.write_json(folder / parity_file(form), json.loads(report.to_json()))
        found[form.name] = run(folder / form.network_file, form, used.test_images, settings.threads)
        agreements[form.name] = agreement(
            found[form.name], probabilities, used.test_labels, report.passed
        )
        advance((index + 1) / len(FORMS) / 2)
    with workspace.replacing(folder / PREDICTIONS_FILE) as aside:
        np.savez(aside, **found)

    batch = data.test_images[:LATENCY_BATCH]
    norm = model.get_layer(NORM_LAYER)
    activations = tf.keras.Model(model.inputs, norm.get_input_at(0))(batch).numpy()
    layer = export.layer_model(tf, model)
    network_files = {form: folder / form.network_file for form in FORMS}
    layer_files = {form: folder / form.layer_file for form in FORMS}
    result = Verification(
        images=len(used.test_images),
        tensorflow_accuracy=train.accuracy(probabilities, used.test_labels),
        agreements=agreements,
        network=_race(
            tf, model, network_files, batch, settings, lambda done: advance(0.5 + done / 4)
        ),
        layer=_race(
            tf, layer, layer_files, activations, settings, lambda done: advance(0.75 + done / 4)
        ),
        layer_shape=tuple(activations.shape),
        threads=settings.threads,
        environment=environment.describe(),
    )
    return workspace.write_stamp(
        folder,
        STEP,
        key(card, settings, trained, exported),
        [PREDICTIONS_FILE, *(parity_file(form) for form in FORMS)],
        asdict(result),
    )


def verification(stamp: Stamp) -> Verification:
    """The record that a stamp holds."""
    result = dict(stamp.result)
    result["agreements"] = {
        name: Agreement(**agreement) for name, agreement in result["agreements"].items()
    }
    for name in ("network", "layer"):
        timings = {party: Timing(**value) for party, value in result[name]["timings"].items()}
        result[name] = Race(timings, result[name]["times_faster"])
    result["environment"] = environment.Environment(**result["environment"])
    result["layer_shape"] = tuple(result["layer_shape"])
    return Verification(**result)


def predictions(folder: Path) -> dict[str, NDArray[np.float32]]:
    """ONNX Runtime's probabilities for the test images, float32 (images, 10), by form."""
    with np.load(folder / PREDICTIONS_FILE, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def parity_file(form: Form) -> str:
    """Where the report of `onnxnorm.verify` on a form is."""
    return f"parity_{form.name}.json"


def agreement(
    found: NDArray[np.float32],
    expected: NDArray[np.float32],
    labels: NDArray[np.int64],
    in_parity: bool,
) -> Agreement:
    """How two sets of probabilities, float32 (images, 10), compare on labelled images."""
    errors = np.abs(found.astype(np.float64) - expected)
    histogram, _ = np.histogram(errors[errors > 0], ERROR_BINS)
    return Agreement(
        accuracy=train.accuracy(found, labels),
        top1_agreement=float(np.mean(found.argmax(axis=1) == expected.argmax(axis=1))),
        largest_error=float(errors.max()),
        mean_error=float(errors.mean()),
        exact=int((errors == 0).sum()),
        histogram=tuple(int(count) for count in histogram),
        in_parity=in_parity,
    )


def run(path: Path, form: Form, images: NDArray[np.float32], threads: int) -> NDArray[np.float32]:
    """ONNX Runtime's probabilities for images, float32 (images, 10)."""
    runner = session(path, threads, form.needs_library)
    (name,) = (value.name for value in runner.get_inputs())
    batches = (images[start : start + ORT_BATCH] for start in range(0, len(images), ORT_BATCH))
    return np.concatenate([runner.run(None, {name: batch})[0] for batch in batches])


def _race(
    tf: Any,
    model: Any,
    files: Mapping[Form, Path],
    inputs: NDArray[np.float32],
    settings: VerifySettings,
    advance: Advance,
) -> Race:
    """Every competitor goes from a numpy array to a numpy array."""
    if settings.rounds == 0:
        return Race({}, {})
    signature = [tf.TensorSpec(inputs.shape, tf.float32)]
    compiled = tf.function(lambda x: model(x, training=False), input_signature=signature)
    functions: dict[str, Callable[[], object]] = {
        TENSORFLOW: lambda: compiled(tf.constant(inputs)).numpy()
    }
    for form, path in files.items():
        runner = session(path, settings.threads, form.needs_library)
        functions[form.name] = _caller(runner, inputs)
    times = latency.measure(functions, settings.rounds, advance)
    return Race(
        {name: latency.timing(milliseconds) for name, milliseconds in times.items()},
        {name: latency.times_faster(own, times[PLAIN.name]) for name, own in times.items()},
    )


def _caller(runner: Any, inputs: NDArray[np.float32]) -> Callable[[], object]:
    (name,) = (value.name for value in runner.get_inputs())
    feed = {name: inputs}
    return lambda: runner.run(None, feed)
