"""Files that are read and written with care.

Reading waits for nothing and opens no device. Writing destroys nothing that is read, and a file
holds either what it held before or all that is new.
"""

from __future__ import annotations

import os
import secrets
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from onnxnorm.errors import ModelFileError

StrPath = str | os.PathLike[str]

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_STANDARD_STREAMS = {0: "stdin", 1: "stdout", 2: "stderr"}
# Opening does not wait for the writer of a named pipe.
READ_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_BINARY", "O_CLOEXEC", "O_NONBLOCK")
)


def open_regular(path: StrPath, expected: str) -> BinaryIO:
    """Opens a regular file to read it.

    Args:
        path: the file; a symbolic link is followed.
        expected: what an error says is expected, such as ``"an ONNX file"``.

    Raises:
        ModelFileError: there is no such file, it is not a regular one, or it may not be read.
    """
    try:
        _check_kind(path, os.stat(path).st_mode, expected)  # a device can act on being opened
        stream = os.fdopen(os.open(path, READ_FLAGS), "rb")
        try:
            _check_kind(path, os.fstat(stream.fileno()).st_mode, expected)
        except BaseException:
            stream.close()
            raise
        return stream
    except FileNotFoundError as error:
        raise ModelFileError(f"{path}: no such file; {expected} is expected") from error
    except (OSError, ValueError) as error:  # the second for what can be no name
        raise ModelFileError(f"{path}: cannot be read: {_reason(error)}") from error


def exists(path: StrPath) -> bool:
    """Whether there is a file or a directory of this name.

    Raises:
        ModelFileError: the name cannot be looked up, for instance because it is too long.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path}: cannot be read: {_reason(error)}") from error
    return True


def check_outputs(outputs: Sequence[StrPath], reads: Sequence[StrPath] = ()) -> None:
    """Finds out before work begins whether every output can be written and destroys nothing.

    Two paths are the same file by any spelling: links, hard links, and upper or lower case, which
    some file systems do not tell apart.

    Args:
        outputs: the files that a command writes.
        reads: the files that it reads, and directories, of which it reads everything.

    Raises:
        ModelFileError: a file cannot be written there, is read, is written twice, or is where the
            command's own stdout or stderr goes.
    """
    for place, output in enumerate(outputs):
        file = destination(output)
        for other in outputs[:place]:
            if _same(file, other):
                name = "" if str(output) == str(other) else f" (as {other})"
                raise ModelFileError(
                    f"{output}: is written{name} as another output too: name another"
                )
        for descriptor, name in _STANDARD_STREAMS.items():
            if _is_open_on(file, descriptor):
                raise ModelFileError(
                    f"{output}: {name} of this command is the same file: name another output"
                )
        for read in reads:
            if os.path.isdir(read):
                if _within(file, read):
                    raise ModelFileError(
                        f"{output}: belongs to {read}, which is read: name another output"
                    )
            elif _same(file, read):
                what = "is read" if str(output) == str(read) else f"is {read}, which is read"
                raise ModelFileError(f"{output}: {what}: name another output")


def destination(path: StrPath) -> Path:
    """The file that is replaced by writing to ``path``.

    Raises:
        ModelFileError: no file can be written there.
    """
    try:
        # A link is followed: the file that it names is replaced, not the link.
        file = Path(os.path.realpath(path))
        mode = os.lstat(file).st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = stat.S_IFREG
    except (OSError, ValueError) as error:
        raise ModelFileError(f"cannot write {path}: {_reason(error)}") from error
    if stat.S_ISDIR(mode):
        raise ModelFileError(f"cannot write {path}: it is a directory, name a file in it")
    if not stat.S_ISREG(mode):
        raise ModelFileError(f"cannot write {path}: it is not a regular file, name another output")
    if not file.parent.is_dir():
        raise ModelFileError(f"cannot write {path}: there is no directory {file.parent}")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise ModelFileError(f"cannot write {path}: no permission to write in {file.parent}")
    return file


def write_text(text: str, path: StrPath) -> None:
    """Writes a text file so that ``path`` holds either what it held before or the whole text.

    Raises:
        ModelFileError: the path cannot be written to.
    """
    with aside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def aside(path: StrPath) -> Iterator[Path]:
    """An empty file in the folder of ``path``; what is written there takes its place at the end.

    The new file has the mode, and as far as permitted the owner, of the one that it replaces. When
    the block raises, ``path`` keeps what it held before.

    Raises:
        ModelFileError: the path cannot be written to.
    """
    file = destination(path)
    # Not longer than most names: one of 255 bytes can have no addition.
    temporary = file.with_name(f".onnxnorm-{os.getpid()}-{secrets.token_hex(8)}")
    try:
        before = os.stat(file) if file.exists() else None
        mode = 0o666 if before is None else stat.S_IMODE(before.st_mode) & 0o777 | 0o600
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        yield temporary
        _to_disk(temporary)
        if before is not None:
            _be_like(temporary, before)
        os.replace(temporary, file)
        _to_disk(file.parent)
    except OSError as error:
        raise ModelFileError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _check_kind(path: StrPath, mode: int, expected: str) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "not a regular file")
        raise ModelFileError(f"{path}: is {kind}, {expected} is expected")


def _same(one: StrPath, other: StrPath) -> bool:
    with suppress(OSError):  # one is not there yet
        if os.path.samefile(one, other):
            return True
    folder, name = os.path.split(os.path.realpath(one))
    other_folder, other_name = os.path.split(os.path.realpath(other))
    return _folded(name) == _folded(other_name) and (
        folder == other_folder or _inode(folder) == _inode(other_folder) is not None
    )


def _folded(name: str) -> str:
    """The name as a file system keeps it that tells neither case nor composed letters apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _within(file: Path, directory: StrPath) -> bool:
    """Whether a file is in a directory or in one that it links to, or is one of their files."""
    folders = {_inode(directory)}
    ancestors = {_inode(folder) for folder in file.parents}
    if folders & ancestors:
        return True
    own = _inode(file)
    # Another name of what is inside is a link, either there or here.
    for folder, inner, files in os.walk(directory, followlinks=True):
        if own is not None and any(_inode(os.path.join(folder, name)) == own for name in files):
            return True
        # Links can lead round in a circle.
        new = {name: _inode(os.path.join(folder, name)) for name in inner}
        inner[:] = [name for name, inode in new.items() if inode not in folders]
        folders.update(new.values())
        if ancestors & folders:
            return True
    return False


def _inode(path: StrPath) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_open_on(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(file), os.fstat(descriptor))
    except OSError:
        return False


def _be_like(file: Path, other: os.stat_result) -> None:
    # Only an administrator may give a file away, others at most to a group of theirs.
    for owner in (other.st_uid, -1):
        with suppress(OSError, AttributeError):
            os.chown(file, owner, other.st_gid)
            break
    with suppress(OSError):
        os.chmod(file, stat.S_IMODE(other.st_mode))


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
