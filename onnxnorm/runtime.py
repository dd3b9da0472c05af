"""The native operators in ONNX Runtime: where the library is, and sessions that use it."""

from __future__ import annotations

import os
import sys
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import EncodeError

from onnxnorm import feeding
from onnxnorm.errors import MissingDependencyError, ModelFileError, RuntimeLibraryError
from onnxnorm.graph.fusion import in_memory
from onnxnorm.modelfile import PROTOBUF_LIMIT

try:
    import onnxruntime
except ImportError as error:
    raise MissingDependencyError(
        "onnxruntime is not installed: pip install 'onnxnorm[cpu]' or 'onnxnorm[gpu]'"
    ) from error

OLDEST_ONNXRUNTIME = (1, 18)
# The first release that is known to find external tensors of a model in memory in a given folder.
_EXTERNAL_TENSORS_IN_MEMORY = (1, 22)
_FOLDER_OPTION = "session.model_external_initializers_file_folder_path"
_CPU = "CPUExecutionProvider"
_TOO_LARGE = (
    "model: more than 2 GB cannot be handed over in memory: write it with "
    "onnxnorm.modelfile.save, which puts the weights into a file of their own, and open that"
)

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
    if _installed() < OLDEST_ONNXRUNTIME:
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
        optimize: take activations and residuals into the normalization nodes, in memory, as
            `onnxnorm.optimize` does. Only where the CPU comes first among the providers: on others
            the nodes run as their function bodies, which the optimized form does not have. With
            ONNX Runtime before 1.22, not for files with external tensors.
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
        optimize: bool = True,
        **kwargs: Any,
    ) -> None:
        options = onnxruntime.SessionOptions() if sess_options is None else sess_options
        register(options)
        source = _source(path_or_bytes)
        arguments = {"providers": [_CPU] if providers is None else list(providers), **kwargs}
        failure: Exception | None = None
        if optimize and _runs_on_cpu(arguments["providers"]):
            try:
                if self._load_optimized(source, options, arguments, sess_options is not None):
                    return
            except Exception as error:  # a session of the file as it is serves the user still
                failure = error
        name = source if isinstance(source, str) else "model"
        try:
            super().__init__(source, options, **arguments)
        except Exception as error:
            raise ModelFileError(f"{name}: ONNX Runtime cannot load it: {error}") from error
        if failure is not None:
            warnings.warn(
                f"{name}: runs as it is, since it cannot be optimized: "
                f"{type(failure).__name__}: {failure}",
                RuntimeWarning,
                stacklevel=2,
            )

    def _load_optimized(
        self,
        source: str | bytes,
        options: onnxruntime.SessionOptions,
        arguments: dict[str, Any],
        shared: bool,
    ) -> bool:
        """Loads the optimized form; False where there is none other than the source."""
        found = in_memory.optimized(source)
        if found is None or (found.folder and _installed() < _EXTERNAL_TENSORS_IN_MEMORY):
            return False
        with _external_tensors_in(options, found.folder, shared):
            super().__init__(found.content, options, **arguments)
        return True

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: onnxruntime.RunOptions | None = None,
    ) -> list[Any]:
        """As in the base class, and with bfloat16 arrays of ``ml_dtypes`` as inputs and outputs.

        Raises:
            MissingDependencyError: for bfloat16, ``ml_dtypes`` or onnxruntime 1.20 is missing.
        """
        return feeding.run(self, output_names, input_feed, run_options)


def _source(model: str | os.PathLike[str] | bytes | onnx.ModelProto) -> str | bytes:
    """What ONNX Runtime can be given."""
    if isinstance(model, bytes):
        return model
    if isinstance(model, onnx.ModelProto):
        try:
            content = bytes(model.SerializeToString())
        except (EncodeError, ValueError) as error:
            raise ModelFileError(_TOO_LARGE) from error
        # Some releases of protobuf write what none can read.
        if len(content) > PROTOBUF_LIMIT:
            raise ModelFileError(_TOO_LARGE)
        return content
    path = os.fspath(model)
    if not Path(path).is_file():
        raise ModelFileError(f"{path}: no such model file")
    return path


def _runs_on_cpu(providers: Sequence[str | tuple[str, dict[str, Any]]]) -> bool:
    first = providers[0] if providers else _CPU
    return (first if isinstance(first, str) else first[0]) == _CPU


@contextmanager
def _external_tensors_in(
    options: onnxruntime.SessionOptions, folder: Path | None, shared: bool
) -> Iterator[None]:
    """Tells the folder of external tensors, in options that the caller shares for a while only."""
    try:
        before = options.get_session_config_entry(_FOLDER_OPTION)
    except RuntimeError:  # not set
        before = ""
    if folder:
        options.add_session_config_entry(_FOLDER_OPTION, str(folder))
    try:
        yield
    finally:
        if folder and shared:
            options.add_session_config_entry(_FOLDER_OPTION, before)


def _installed() -> tuple[int, ...]:
    return tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
