"""How large a model file, and what it asks for, may be: each limit is said once, here."""

from __future__ import annotations

import inspect
import json
import math
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onnxnorm.errors import ModelFileError

MAX_EXPANSION = 100  # inflated bytes, and elements of weights, for each byte of the file
SLACK = 16 * 2**20  # bytes or elements that any file may have beyond that
MAX_CONFIG = 64 * 2**20  # bytes of JSON
MAX_DEPTH = 200  # of lists and dictionaries in JSON
MAX_SECONDS = 60  # of CPU time to load a file, and one more for each megabyte of it
MAX_MEMORY = 8 * 2**30  # bytes of memory to load a file, and MEMORY_PER_BYTE for each byte of it
MEMORY_PER_BYTE = 10
MAX_LAYERS = 20_000
MAX_OBJECTS = 200_000  # groups, data sets, attributes or archive members in one file


def check_kind(path: Path) -> None:
    """Raises ModelFileError for what is neither a regular file nor a directory of such.

    A link within a directory leads to something inside that directory. A directory that is no
    SavedModel is left to its reader.
    """
    if path.is_dir():
        if not os.path.lexists(path / "saved_model.pb"):
            return
        root = path.resolve()
        for folder, directories, files in os.walk(path):
            for name in (*directories, *files):
                entry = Path(folder, name)
                if not entry.resolve().is_relative_to(root):
                    raise ModelFileError(f"{entry}: a link that leads out of the SavedModel")
                if not entry.is_dir():
                    _check_regular(entry)
    else:
        _check_regular(path)


def _check_regular(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        raise ModelFileError(f"{path}: neither a regular file nor a directory, as a model must be")


def parsed(text: bytes | str, path: Path) -> Any:
    """The value in JSON text from ``path``.

    Raises:
        ModelFileError: it is too long or too deeply nested.
    """
    if len(text) > MAX_CONFIG:
        raise ModelFileError(
            f"{path}: its configuration has {len(text):,} bytes; at most {MAX_CONFIG:,} are read"
        )
    too_deep = ModelFileError(
        f"{path}: its configuration is nested more than {MAX_DEPTH} levels deep"
    )
    try:
        value = json.loads(text)
    except RecursionError:
        raise too_deep from None
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        contents = [outer.values() if isinstance(outer, dict) else outer for outer in level]
        level = [item for items in contents for item in items if isinstance(item, (dict, list))]
        if not level:
            return value
    raise too_deep


def check_archive(archive: zipfile.ZipFile, path: Path) -> None:
    """Raises ModelFileError unless the archive's members are files, each within the bounds."""
    members = archive.infolist()
    if len(members) > MAX_OBJECTS:
        raise ModelFileError(f"{path}: has {len(members):,} members; at most {MAX_OBJECTS:,}")
    room = MAX_EXPANSION * path.stat().st_size + SLACK
    if sum(member.file_size for member in members) > room:
        raise ModelFileError(f"{path}: inflates to more than {MAX_EXPANSION} times its size")
    seen = set()
    for member in members:
        name = member.filename
        parts = name.rstrip("/").split("/")
        outside = name.startswith("/") or {"..", "."} & set(parts) or "\\" in name or ":" in name
        link = stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR)
        if outside or link or name in seen:
            reason = "leads outside" if outside else "is a link" if link else "is there twice"
            raise ModelFileError(f"{path}: its member {name!r:.80} {reason}")
        known = name in ("config.json", "metadata.json", "model.weights.json")
        if not (known or name.endswith(".weights.h5") or parts[0] == "assets"):
            raise ModelFileError(
                f"{path}: its member {name!r:.80} is none that a Keras archive has: config.json, "
                "metadata.json, model.weights.h5 and assets/"
            )
        seen.add(name)


def check_hdf5(file: Any, path: Path, size: int) -> int:
    """Elements of all data sets of an open HDF5 file.

    Args:
        file: the open ``h5py.File``.
        path: where it is, for messages.
        size: its size in bytes.

    Raises:
        ModelFileError: it refers to other files, or its data sets are larger than the file can be.
    """
    import h5py

    elements, bytes_, objects = 0, 0, 0
    room = MAX_EXPANSION * size + SLACK
    pending, seen = [file], set()
    while pending:
        group = pending.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        for name in group.attrs:
            attribute = group.attrs.get_id(name)
            bytes_ += math.prod(attribute.shape) * attribute.dtype.itemsize
            objects += 1
        if not isinstance(group, h5py.Group):
            where = f"{path}: its data set {group.name!r:.80}"
            if group.is_virtual or group.external:
                raise ModelFileError(f"{where} is kept in another file")
            elements += math.prod(group.shape or ())
            bytes_ += math.prod(group.shape or ()) * group.dtype.itemsize
            if bytes_ > room:
                raise ModelFileError(
                    f"{where} has the shape {group.shape}, more than {MAX_EXPANSION} times the "
                    f"{size:,} bytes of the file"
                )
            continue
        objects += len(group)
        if objects > MAX_OBJECTS or bytes_ > room:
            raise ModelFileError(f"{path}: its groups and attributes are more than it can hold")
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ModelFileError(
                    f"{path}: {name!r:.80} in its group {group.name!r:.80} is a link to somewhere "
                    "else, which Keras does not write"
                )
            pending.append(group[name])
    return elements


ends_when_late = False
"""Whether the system may end this process when loading a file takes too much time or memory.

HDF5 can loop for ever in a damaged file, in code that nothing in Python interrupts, and a layer can
ask for any memory. A command runs in a child process for that; a process of a caller's own is never
ended.
"""


@contextmanager
def time_and_memory(path: Path) -> Iterator[None]:
    """Meanwhile this process gets no more than a file of that size needs to be loaded.

    Of memory only Linux counts what is mapped.
    """
    if not ends_when_late:
        yield
        return
    import resource

    files = path.rglob("*") if path.is_dir() else (path,)
    size = sum(file.stat().st_size for file in files)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = math.ceil(usage.ru_utime + usage.ru_stime) + MAX_SECONDS + size // 10**6
    bytes_ = _data_bytes() + MAX_MEMORY + MEMORY_PER_BYTE * size
    with (
        _lowered(resource.RLIMIT_CPU, seconds),
        _lowered(resource.RLIMIT_DATA, bytes_),
    ):
        yield


@contextmanager
def _lowered(limit: int, wanted: int) -> Iterator[None]:
    import resource

    before = resource.getrlimit(limit)
    if before[0] in (resource.RLIM_INFINITY, -1) or wanted < before[0]:
        resource.setrlimit(limit, (wanted, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(limit, before)


def _data_bytes() -> int:
    """Bytes of memory that the system counts for its limit of data now."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("VmData:"))


class TooLargeError(ModelFileError):
    """Layers ask for more weights than the file holds."""


@contextmanager
def weights_held(layer_class: type, elements: int) -> Iterator[None]:
    """Meanwhile layers get no more weights than a file with so many elements needs.

    Raises:
        TooLargeError: a layer asks for more, before memory is asked for.
    """
    original: Any = layer_class.add_weight  # type: ignore[attr-defined]
    signature = inspect.signature(original)
    room = 2 * elements + SLACK

    def add_weight(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal room
        shape: Any = signature.bind_partial(self, *args, **kwargs).arguments.get("shape")
        sizes = () if shape is None or isinstance(shape, int) else tuple(shape)
        sizes = (shape,) if isinstance(shape, int) else sizes
        wanted = math.prod(int(size) for size in sizes if size is not None)
        if wanted > room:
            raise TooLargeError(
                f"layer {self.name!r} asks for a weight of shape {sizes}, more than the file holds"
            )
        room -= wanted
        return original(self, *args, **kwargs)

    layer_class.add_weight = add_weight  # type: ignore[attr-defined]
    try:
        yield
    finally:
        layer_class.add_weight = original  # type: ignore[attr-defined]
