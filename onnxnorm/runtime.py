"""The native operators in ONNX Runtime: where the library is, and sessions that use it."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from onnxnorm.errors import MissingDependencyError, ModelFileError, RuntimeLibraryError

try:
    import onnxruntime
except ImportError as error:
    raise MissingDependencyError(
        "onnxruntime is not installed: pip install 'onnxnorm[cpu]' or 'onnxnorm[gpu]'"
    ) from error

OLDEST_ONNXRUNTIME = (1, 18)

_SUFFIX = {"win32": "dll", "darwin": "dylib"}.get(sys.platform, "so")
_PREFIX = "" if sys.platform == "win32" else "lib"
_registered: weakref.WeakSet[onnxruntime.SessionOptions] = weakref.WeakSet()


def library_path(provider: str = "cpu") -> Path:
    """The native operator library for an execution provider.

    Args:
        provider: ``"cpu"``; the environment variable ``ONNXNORM_LIBRARY`` names another file,
            for development and sanitizer builds.

    Raises:
        RuntimeLibraryError: the library is not there, or no such provider is known.
    """
    if provider != "cpu":
        raise RuntimeLibraryError(f"no native library for provider {provider!r}: only 'cpu'")
    override = os.environ.get("ONNXNORM_LIBRARY")
    packaged = Path(__file__).parent / "lib" / f"{_PREFIX}onnxnorm_cpu.{_SUFFIX}"
    path = Path(override) if override else packaged
    if not path.is_file():
        origin = "named by ONNXNORM_LIBRARY" if override else "of the installed package"
        raise RuntimeLibraryError(
            f"native library {origin} not found at {path}: install onnxnorm from a wheel, or "
            "from source with 'pip install .', which builds it"
        )
    return path


def register(session_options: onnxruntime.SessionOptions) -> None:
    """Makes the native operators known to sessions created with these options.

    Registering the same options again does nothing.

    Raises:
        RuntimeLibraryError: onnxruntime is older than 1.18, or the library cannot be loaded.
    """
    installed = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    if installed < OLDEST_ONNXRUNTIME:
        oldest = ".".join(map(str, OLDEST_ONNXRUNTIME))
        raise RuntimeLibraryError(
            f"onnxruntime {onnxruntime.__version__} is too old for the native operators: "
            f"install onnxruntime {oldest} or later"
        )
    if session_options in _registered:
        return
    path = library_path()
    try:
        session_options.register_custom_ops_library(str(path))
    except Exception as error:
        raise RuntimeLibraryError(f"cannot load the native library {path}: {error}") from error
    _registered.add(session_options)


class InferenceSession(onnxruntime.InferenceSession):  # type: ignore[misc] # untyped base
    """An ``onnxruntime.InferenceSession`` with the native operators registered.

    Args:
        path_or_bytes: model file, its bytes, or a ``ModelProto``.
        providers: execution providers in order of preference; default: the CPU.
        sess_options: session options of the caller; the operators are registered in them.
        **kwargs: passed on to ``onnxruntime.InferenceSession``.

    Raises:
        ModelFileError: the file is missing or no model that ONNX Runtime can load.
        RuntimeLibraryError: the native library is missing or does not load.
    """

    def __init__(
        self,
        path_or_bytes: str | os.PathLike[str] | bytes | onnx.ModelProto,
        providers: Sequence[str | tuple[str, dict[str, Any]]] | None = None,
        sess_options: onnxruntime.SessionOptions | None = None,
        **kwargs: Any,
    ) -> None:
        options = onnxruntime.SessionOptions() if sess_options is None else sess_options
        register(options)
        if isinstance(path_or_bytes, onnx.ModelProto):
            source: str | bytes = path_or_bytes.SerializeToString()
        elif isinstance(path_or_bytes, bytes):
            source = path_or_bytes
        else:
            source = os.fspath(path_or_bytes)
            if not Path(source).is_file():
                raise ModelFileError(f"{source}: no such model file")
        providers = ["CPUExecutionProvider"] if providers is None else providers
        try:
            super().__init__(source, options, providers=list(providers), **kwargs)
        except Exception as error:
            name = source if isinstance(source, str) else "model"
            raise ModelFileError(f"{name}: ONNX Runtime cannot load it: {error}") from error
