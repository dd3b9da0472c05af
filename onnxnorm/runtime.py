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

from onnxnorm import arguments, feeding
from onnxnorm.errors import MissingDependencyError, ModelFileError, RuntimeLibraryError
from onnxnorm.graph import cpu_target
from onnxnorm.graph.fusion import in_memory
from onnxnorm.modelfile import PROTOBUF_LIMIT, check_before_runtime
from onnxnorm.opset.checks import NodeError
from onnxnorm.runtime_errors import one_line

try:
    import onnxruntime
except ImportError as error:
    raise MissingDependencyError(
        "onnxruntime is not installed: pip install 'onnxnorm[cpu]' or 'onnxnorm[gpu]'"
    ) from error

from onnxnorm import cpu_kind, provider_choice

Content = bytes | bytearray | memoryview

OLDEST_ONNXRUNTIME = (1, 18)
# The first release that is known to find external tensors of a model in memory in a given folder.
_EXTERNAL_TENSORS_IN_MEMORY = (1, 22)
_FORMAT_OPTION = "session.load_model_format"
_FOLDER_OPTION = "session.model_external_initializers_file_folder_path"
_LIBRARY_VARIABLES = {"cpu": "ONNXNORM_LIBRARY", "cuda": "ONNXNORM_CUDA_LIBRARY"}
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
        provider: ``"cpu"`` or ``"cuda"``, whose library has the operators of the CPU as well. The
            environment variables ``ONNXNORM_LIBRARY`` and ``ONNXNORM_CUDA_LIBRARY`` name other
            files, for development and sanitizer builds.

    Raises:
        RuntimeLibraryError: the library is not there, or no such provider is known.
    """
    arguments.text("library_path", "provider", provider)
    if provider not in _LIBRARY_VARIABLES:
        known = " or ".join(map(repr, _LIBRARY_VARIABLES))
        raise RuntimeLibraryError(f"no native library for provider {provider!r}: only for {known}")
    variable = _LIBRARY_VARIABLES[provider]
    override = os.environ.get(variable)
    packaged = Path(__file__).parent / "lib" / f"{_PREFIX}onnxnorm_{provider}.{_SUFFIX}"
    path = Path(override) if override else packaged
    if path.is_file():
        return path
    if override:
        raise RuntimeLibraryError(f"native library named by {variable} not found at {path}")
    advice = (
        "this installation was built where no nvcc was found: build it with 'pip install .' where "
        "the CUDA toolkit is"
        if provider == "cuda"
        else "install onnxnorm from a wheel, or from source with 'pip install .', which builds it"
    )
    raise RuntimeLibraryError(
        f"native library of the installed package not found at {path}: {advice}"
    )


def register(session_options: onnxruntime.SessionOptions, provider: str | None = None) -> None:
    """Makes the native operators known to sessions created with these options.

    Registering the same options again does nothing.

    Args:
        session_options: options of an ``onnxruntime.InferenceSession``.
        provider: ``"cpu"``, or ``"cuda"`` for nodes on either; default: ``"cuda"`` where ONNX
            Runtime and this installation both have CUDA.

    Raises:
        RuntimeLibraryError: onnxruntime is older than 1.18, or the library cannot be loaded.
    """
    _check_options("register", "session_options", session_options)
    if provider is not None:
        arguments.text("register", "provider", provider)
    if _installed() < OLDEST_ONNXRUNTIME:
        oldest = ".".join(map(str, OLDEST_ONNXRUNTIME))
        raise RuntimeLibraryError(
            f"onnxruntime {onnxruntime.__version__} is too old for the native operators: "
            f"install onnxruntime {oldest} or later"
        )
    if session_options in _registered:
        return
    if provider is None:
        on_cuda = (
            provider_choice.CUDA in onnxruntime.get_available_providers() and has_cuda_library()
        )
        provider = "cuda" if on_cuda else "cpu"
    path = library_path(provider)
    try:
        session_options.register_custom_ops_library(str(path))
    except Exception as error:
        raise RuntimeLibraryError(f"cannot load the native library {path}: {error}") from error
    _registered.add(session_options)


def has_cuda_library() -> bool:
    """Whether this installation has the operators for CUDA devices."""
    try:
        library_path("cuda")
    except RuntimeLibraryError:
        return False
    return True


class InferenceSession(onnxruntime.InferenceSession):  # type: ignore[misc] # untyped base
    """An ``onnxruntime.InferenceSession`` with the native operators registered.

    Its arguments are those of ``onnxruntime.InferenceSession`` in the same order, and two keywords.
    ``get_providers()`` tells which execution providers really run. On CUDA without the CUDA
    library, the normalization nodes run on the device as their function bodies.

    Args:
        path_or_bytes: model file, its bytes (also as ``bytearray`` or ``memoryview``), or a
            ``ModelProto``.
        sess_options: session options of the caller; the operators are registered in them.
        providers: execution providers in order of preference, names or pairs of a name and its
            options; default: CUDA, where ONNX Runtime has it and there is a device, and the CPU.
        provider_options: one dictionary of options for each of ``providers``, which are names then.
        optimize: take activations and residuals into the normalization nodes, in memory, as
            `onnxnorm.optimize` does. Only where the library of the first provider is there: the
            function bodies gain nothing by it. With ONNX Runtime before 1.22, not for files with
            external tensors.
        strict: what is otherwise a warning is an error: a provider that was asked for and is not
            used, normalization nodes on the CPU in a session on CUDA.
        **kwargs: passed on to ``onnxruntime.InferenceSession``.

    Raises:
        ModelFileError: the file is missing, no model that ONNX Runtime can load, or optimized for
            another kind of CPU or release of ONNX Runtime.
        RuntimeLibraryError: the native library is missing or does not load, or ``strict`` and not
            what was asked for.
    """

    def __init__(
        self,
        path_or_bytes: str | os.PathLike[str] | Content | onnx.ModelProto,
        sess_options: onnxruntime.SessionOptions | None = None,
        providers: Sequence[provider_choice.Provider] | None = None,
        provider_options: Sequence[dict[Any, Any]] | None = None,
        *,
        optimize: bool = True,
        strict: bool = False,
        **kwargs: Any,
    ) -> None:
        own = type(self).__name__
        if sess_options is not None:
            _check_options(own, "sess_options", sess_options)
        arguments.providers(own, providers, provider_options)
        optimize = arguments.flag(own, "optimize", optimize)
        strict = arguments.flag(own, "strict", strict)
        options = onnxruntime.SessionOptions() if sess_options is None else sess_options
        if providers is None:  # ONNX Runtime ignores the options then
            provider_options = None
            asked = [] if provider_choice.are_in(options) else provider_choice.default()
        else:
            asked = list(providers)
        source = _source(path_or_bytes)
        name = source if isinstance(source, str) else "model"
        folder, model_format = (_entry(options, key) for key in (_FOLDER_OPTION, _FORMAT_OPTION))
        check_before_runtime(source, folder, model_format)
        target = cpu_target.of_metadata(in_memory.header_of(source).metadata, name)
        if target is not None:
            cpu_kind.check(target, name)
            optimize = False  # it is, and runs nowhere else
            asked = [provider_choice.CPU] if providers is None else asked
        settings = {"providers": asked, "provider_options": provider_options, **kwargs}
        if provider_choice.CUDA in map(provider_choice.name_of, asked):
            options.add_session_config_entry(provider_choice.RECORD_OPTION, "1")
        library = provider_choice.library(asked, has_cuda_library())
        if library:
            register(options, library)
            self._load(source, name, options, settings, optimize, sess_options is not None)
        else:
            self._load_bodies(source, name, options, settings)
        complaints = [
            *provider_choice.unused(asked, self.get_providers()),
            *provider_choice.left_on_cpu(self),
        ]
        if complaints and strict:
            raise RuntimeLibraryError(f"{name}: {'; '.join(complaints)}")
        for complaint in complaints:
            warnings.warn(f"{name}: {complaint}", RuntimeWarning, stacklevel=2)

    def _load(
        self,
        source: str | bytes,
        name: str,
        options: onnxruntime.SessionOptions,
        arguments: dict[str, Any],
        optimize: bool,
        shared: bool,
    ) -> None:
        failure: Exception | None = None
        try:
            if self._load_optimized(source, name, options, arguments, optimize, shared):
                return
        except NodeError:
            raise
        except Exception as error:  # a session of the file as it is serves the user still
            failure = error if optimize else None
        try:
            super().__init__(source, options, **arguments)
        except Exception as error:
            reason = one_line(error)
            if isinstance(failure, ModelFileError):  # says more, such as which node
                reason = str(failure).removeprefix(f"{name}: ")
            raise ModelFileError(f"{name}: ONNX Runtime cannot load it: {reason}") from error
        if failure is not None:
            warnings.warn(
                f"{name}: runs as it is, since it cannot be optimized: "
                f"{type(failure).__name__}: {failure}",
                RuntimeWarning,
                stacklevel=3,
            )

    def _load_bodies(
        self,
        source: str | bytes,
        name: str,
        options: onnxruntime.SessionOptions,
        arguments: dict[str, Any],
    ) -> None:
        """On a device for which there is no library: the file's function bodies, if it has them."""
        in_memory.optimized(source, name, fused=False)  # which checks it
        try:
            super().__init__(source, options, **arguments)
        except Exception:  # an operator without body, or a fault that the next attempt tells
            register(options, "cpu")
            self._load(source, name, options, arguments, optimize=False, shared=True)

    def _load_optimized(
        self,
        source: str | bytes,
        name: str,
        options: onnxruntime.SessionOptions,
        arguments: dict[str, Any],
        optimize: bool,
        shared: bool,
    ) -> bool:
        """Loads the optimized form; False where there is none other than the source."""
        found = in_memory.optimized(source, name, fused=optimize)
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
        arguments.mapping("run", "input_feed", input_feed, "a dictionary from names to arrays")
        if output_names is not None:
            output_names = arguments.texts("run", "output_names", output_names)
        if run_options is not None:
            kind, wanted = onnxruntime.RunOptions, "an onnxruntime.RunOptions"
            arguments.instance("run", "run_options", run_options, kind, wanted)
        return feeding.run(self, output_names, input_feed, run_options)


def _source(model: str | os.PathLike[str] | Content | onnx.ModelProto) -> str | bytes:
    """What ONNX Runtime can be given."""
    if isinstance(model, (bytes, bytearray, memoryview)):
        return bytes(model)
    if isinstance(model, onnx.ModelProto):
        try:
            content = bytes(model.SerializeToString())
        except (EncodeError, ValueError) as error:
            raise ModelFileError(_TOO_LARGE) from error
        # Some releases of protobuf write what none can read.
        if len(content) > PROTOBUF_LIMIT:
            raise ModelFileError(_TOO_LARGE)
        return content
    also = "a model's bytes or an onnx.ModelProto"
    return arguments.path("InferenceSession", "path_or_bytes", model, also)


def _check_options(function: str, name: str, value: Any) -> None:
    kind = onnxruntime.SessionOptions
    arguments.instance(function, name, value, kind, "an onnxruntime.SessionOptions")


@contextmanager
def _external_tensors_in(
    options: onnxruntime.SessionOptions, folder: Path | None, shared: bool
) -> Iterator[None]:
    """Tells the folder of external tensors, in options that the caller shares for a while only."""
    before = _entry(options, _FOLDER_OPTION)
    if folder:
        options.add_session_config_entry(_FOLDER_OPTION, str(folder))
    try:
        yield
    finally:
        if folder and shared:
            options.add_session_config_entry(_FOLDER_OPTION, before)


def _entry(options: onnxruntime.SessionOptions, key: str) -> str:
    try:
        return str(options.get_session_config_entry(key))
    except RuntimeError:  # not set
        return ""


def _installed() -> tuple[int, ...]:
    return tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
