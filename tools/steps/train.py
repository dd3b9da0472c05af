"""First step: a trained Keras model, its learning curves, and what it says of the test set."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import models
from models import ModelCard
from tools import environment, mnist, tensorflow_setup
from tools.steps import Advance, workspace
from tools.steps.workspace import Stamp

STEP = "train"
KERAS_FILE = "model.keras"
HDF5_FILE = "model.h5"
HISTORY_FILE = "history.json"
PREDICTIONS_FILE = "predictions.npz"

TEST_BATCH = 500


@dataclass(frozen=True)
class TrainSettings:
    """What a trained model depends on besides its code.

    Attributes:
        epochs: passes over the training set.
        seed: of the initial weights, the order of the images and their shifts.
        train_samples: how many training images to use, the first ones; None for all.
        test_samples: the same for the test set.
        batch_size: images per step.
    """

    epochs: int = 5
    seed: int = 0
    train_samples: int | None = None
    test_samples: int | None = None
    batch_size: int = 128

    @property
    def full_data(self) -> bool:
        """Whether all of MNIST is used."""
        return self.train_samples is None and self.test_samples is None


def key(card: ModelCard, settings: TrainSettings) -> dict[str, Any]:
    """Everything that the trained model depends on."""
    return {
        "model": card.name,
        "learning_rate": card.learning_rate,
        "settings": asdict(settings),
        "builder": workspace.package_checksum(models.__name__),
        "data": dict(mnist.CHECKSUMS),
        "versions": {
            name: environment.installed_version(name)
            for name in ("tensorflow", "tensorflow-addons")
        },
    }


def train(
    card: ModelCard,
    settings: TrainSettings,
    data: mnist.Mnist,
    folder: Path,
    threads: int,
    advance: Advance,
) -> Stamp:
    """Fits the model on the training set and evaluates it on the test set.

    Args:
        card: which model.
        settings: how.
        data: all of MNIST.
        folder: where the model's files go.
        threads: of TensorFlow's pools.
        advance: told the part that is done.

    Returns:
        A stamp whose result holds the accuracy on the test set, the parameters, the seconds.
    """
    tf = tensorflow_setup.start(threads)
    start = time.perf_counter()
    used = data.first(settings.train_samples, settings.test_samples)
    model = models.build(card.name, settings.seed)
    steps = settings.epochs * -(-len(used.train_images) // settings.batch_size)
    model.compile(
        tf.keras.optimizers.Adam(
            tf.keras.optimizers.schedules.CosineDecay(card.learning_rate, steps)
        ),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    history = _fit(tf, model, used, settings, steps, advance)
    probabilities = model.predict(used.test_images, batch_size=TEST_BATCH, verbose=0)

    with workspace.replacing(folder / KERAS_FILE) as aside:
        model.save(aside)
    with workspace.replacing(folder / HDF5_FILE) as aside:
        model.save(aside)
    with workspace.replacing(folder / PREDICTIONS_FILE) as aside:
        np.savez(aside, probabilities=probabilities)
    workspace.write_json(folder / HISTORY_FILE, history)
    return workspace.write_stamp(
        folder,
        STEP,
        key(card, settings),
        (KERAS_FILE, HDF5_FILE, PREDICTIONS_FILE, HISTORY_FILE),
        {
            "test_accuracy": accuracy(probabilities, used.test_labels),
            "train_images": len(used.train_images),
            "test_images": len(used.test_images),
            "parameters": model.count_params(),
            "seconds": round(time.perf_counter() - start, 1),
        },
    )


def predictions(folder: Path) -> NDArray[np.float32]:
    """TensorFlow's probabilities for the test images, float32 (images, 10), as trained."""
    with np.load(folder / PREDICTIONS_FILE, allow_pickle=False) as archive:
        result: NDArray[np.float32] = archive["probabilities"]
    return result


def accuracy(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The part of the images whose most probable digit is their label."""
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def shifted(images: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    """Every image moved by at most one pixel each way, at random.

    The digits stand at least four pixels from the border, so that nothing wraps round.

    Args:
        images: float32 (images, 28, 28).
        generator: draws the nine directions with equal probability.

    Returns:
        A new array of the same shape.
    """
    directions = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    drawn = generator.integers(len(directions), size=len(images))
    result = np.empty_like(images)
    for index, direction in enumerate(directions):
        chosen = drawn == index
        result[chosen] = np.roll(images[chosen], direction, axis=(1, 2))
    return result


def _fit(
    tf: Any,
    model: Any,
    data: mnist.Mnist,
    settings: TrainSettings,
    steps: int,
    advance: Advance,
) -> Mapping[str, list[float]]:
    """Loss and accuracy on both sets, one value for each epoch.

    The test set is looked at after every epoch for the curve; nothing is chosen by it.
    """
    generator = np.random.default_rng(settings.seed)
    tf.keras.utils.set_random_seed(settings.seed)
    progress = tf.keras.callbacks.LambdaCallback(
        on_batch_end=lambda batch, logs: advance(int(model.optimizer.iterations) / steps)
    )
    epochs: list[Mapping[str, float]] = []
    for epoch in range(settings.epochs):
        images = shifted(data.train_images, generator)
        fitted = model.fit(
            images,
            data.train_labels,
            batch_size=settings.batch_size,
            initial_epoch=epoch,
            epochs=epoch + 1,
            verbose=0,
            callbacks=[progress],
        )
        loss, test_accuracy = model.evaluate(
            data.test_images, data.test_labels, batch_size=TEST_BATCH, verbose=0
        )
        (train_loss,), (train_accuracy,) = fitted.history["loss"], fitted.history["accuracy"]
        epochs.append(
            {
                "loss": float(train_loss),
                "accuracy": float(train_accuracy),
                "test_loss": loss,
                "test_accuracy": test_accuracy,
            }
        )
    return {name: [epoch[name] for epoch in epochs] for name in epochs[0]}
