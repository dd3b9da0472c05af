"""Loads a Keras model from a file that nobody vouches for."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from onnxnorm.errors import MissingDependencyError, ModelFileError
from onnxnorm.frameworks import allowed, allowed_graph, bounds

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class _Description:
    """What a model file says of itself, read without running anything of it.

    Attributes:
        format: for the reader.
        keras_version: release of Keras that wrote it, where the file says so.
        config: the model's configuration; of a SavedModel the text that holds it.
        elements: at most so many elements have the weights in it.
    """

    format: str
    keras_version: str
    config: Any
    elements: int


def load(path: Path, safe_mode: bool = True) -> Any:
    """The Keras model in a ``.keras`` or ``.h5`` file or a SavedModel directory, uncompiled.

    Args:
        path: the file or directory.
        safe_mode: refuse files that name anything but what Keras publishes for models, pure
            functions of TensorFlow and what this process has registered; that refer to other files;
            or that ask for more than they hold.

    Raises:
        ModelFileError: the file is missing, damaged, not a whole Keras model, unsafe, or made
            for another version of Keras.
        MissingDependencyError: TensorFlow, or TensorFlow Addons for its layers, is missing.
    """
    from onnxnorm.capture import tensorflow

    if not path.exists():
        raise ModelFileError(f"{path}: no such file or directory")
    bounds.check_kind(path)
    tf = tensorflow()
    with bounds.time_and_memory(path):
        model = _loaded(tf, path, safe_mode)
    if not isinstance(model, tf.keras.Model):
        raise ModelFileError(
            f"{path}: holds a {type(model).__name__}, not a Keras model; save the model with "
            "model.save, or convert the model object"
        )
    return model


def _loaded(tf: Any, path: Path, safe_mode: bool) -> Any:
    description = _describe(path)
    keras = sys.modules[tf.keras.Model.__module__.partition(".")[0]]
    major = keras.__version__.partition(".")[0]
    _import_addons(path, description, major)
    if safe_mode:
        _check_allowed(path, description, major)
    arguments: dict[str, Any] = {"compile": False}
    if not safe_mode and description.format != "SavedModel":
        arguments["safe_mode"] = False
    if description.format == "HDF5":
        arguments["custom_objects"] = {
            name: tf.keras.utils.get_registered_object(f"Addons>{name}")
            for name, packages in _inner_classes(description.config).items()
            if packages == {"Addons"}
        }
    held = bounds.weights_held(tf.keras.layers.Layer, description.elements)
    try:
        with warnings.catch_warnings(), held if safe_mode else nullcontext():
            warnings.simplefilter("ignore")
            model = tf.keras.models.load_model(path, **arguments)
    except bounds.TooLargeError as error:
        raise ModelFileError(f"{path}: {error}") from error
    except MemoryError as error:
        raise ModelFileError(
            f"{path}: takes more memory to load than {bounds.MAX_MEMORY // 2**30} GiB and "
            f"{bounds.MEMORY_PER_BYTE} bytes for each byte of it, or than this machine has"
        ) from error
    except Exception as error:
        raise ModelFileError(_why_not(path, description, major, error)) from error
    return model


def _describe(path: Path) -> _Description:
    try:
        if path.is_dir():
            return _describe_saved_model(path)
        if zipfile.is_zipfile(path):
            return _describe_archive(path)
        with path.open("rb") as file:
            start = file.read(len(_HDF5_MAGIC))
        if start == _HDF5_MAGIC:
            return _describe_hdf5(path)
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(f"{path}: damaged or truncated: {_brief(error)}") from error
    raise ModelFileError(
        f"{path}: neither a .keras archive nor an HDF5 file, or damaged at its beginning or end; "
        "expected what model.save wrote"
    )


def _describe_saved_model(path: Path) -> _Description:
    graph, metadata = path / "saved_model.pb", path / "keras_metadata.pb"
    if not graph.is_file():
        raise ModelFileError(f"{path}: no saved_model.pb in it, so it is no SavedModel directory")
    # TensorFlow before 2.5 kept the layers' configurations in the graph's file.
    content = (metadata if metadata.is_file() else graph).read_bytes()
    if not metadata.is_file() and b"_tf_keras_" not in content:
        raise ModelFileError(
            f"{path}: a SavedModel without Keras layers, such as model.export and "
            "tf.saved_model.save write; save the model with model.save, or convert the model object"
        )
    # An element has a byte at least.
    elements = sum(file.stat().st_size for file in path.glob("variables/*"))
    return _Description("SavedModel", "2", content.decode("utf-8", "replace"), elements)


def _describe_archive(path: Path) -> _Description:
    if path.suffix != ".keras":
        raise ModelFileError(f"{path}: a zip archive; a Keras archive's name ends with .keras")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if "config.json" not in names:
            raise ModelFileError(f"{path}: no config.json in it, so it is no Keras archive")
        bounds.check_archive(archive, path)
        damaged = archive.testzip()
        if damaged:
            raise ModelFileError(f"{path}: damaged: {damaged} fails its checksum")
        config = bounds.parsed(archive.read("config.json"), path)
        metadata = (
            bounds.parsed(archive.read("metadata.json"), path) if "metadata.json" in names else {}
        )
        weights = [name for name in names if name.endswith(".h5")]
        elements = sum(_elements(archive, name, path) for name in weights)
    return _Description("Keras archive", str(metadata.get("keras_version", "")), config, elements)


def _elements(archive: zipfile.ZipFile, name: str, path: Path) -> int:
    """Elements of the weights in a member of an archive."""
    import h5py

    with tempfile.TemporaryFile() as copy:
        with archive.open(name) as member:
            shutil.copyfileobj(member, copy)
        size = copy.tell()  # h5py moves it
        with h5py.File(copy, "r") as file:
            return bounds.check_hdf5(file, path, size)


def _describe_hdf5(path: Path) -> _Description:
    import h5py

    with h5py.File(path, "r") as file:
        elements = bounds.check_hdf5(file, path, path.stat().st_size)
        config = file.attrs.get("model_config")
        if config is None:
            raise ModelFileError(
                f"{path}: holds weights without a model; save the whole model with model.save"
            )
        version = str(file.attrs.get("keras_version", ""))
        return _Description("HDF5", version, bounds.parsed(config, path), elements)


def _check_allowed(path: Path, description: _Description, major: str) -> None:
    """Raises ModelFileError for a file that names what is not on the list of the known."""
    for reason in _reasons(path, description, major):
        if isinstance(reason, allowed.Unknown):
            raise ModelFileError(_why_not(path, description, major, ValueError(_UNKNOWN + reason)))
        raise ModelFileError(
            f"{path}: {reason}, which is not known to be safe. If you trust the file, allow it: "
            "convert(..., safe_mode=False) or --no-safe-mode"
        )


_UNKNOWN = "Could not locate class: "


def _reasons(path: Path, description: _Description, major: str) -> Iterator[str]:
    if description.format != "SavedModel":
        yield from allowed.refusals(description.config)
        return
    if major != "2":
        yield allowed.Unknown("Keras 3 does not load a SavedModel")
        return
    try:
        graph = allowed_graph.read(path / "saved_model.pb")
        layers = _layer_metadata(path, graph)
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(f"{path}: damaged or truncated: {_brief(error)}") from error
    for config in layers:
        yield from allowed.refusals(config, restored=True)
    yield from allowed_graph.refusals(graph, (path / "saved_model.pb").stat().st_size)


def _layer_metadata(path: Path, saved_model: Any) -> Iterator[Any]:
    """The configurations in a SavedModel, those that releases of TensorFlow read today or did."""
    texts = [
        node.user_object.metadata
        for graph in saved_model.meta_graphs
        for node in graph.object_graph_def.nodes
    ]
    file = path / "keras_metadata.pb"
    if file.is_file():
        from tensorflow import keras

        package = keras.Model.__module__.partition(".")[0]
        messages = import_module(f"{package}.protobuf.saved_metadata_pb2")
        texts += [n.metadata for n in messages.SavedMetadata.FromString(file.read_bytes()).nodes]
    return (bounds.parsed(text, path) for text in texts if text)


def _inner_classes(config: Any) -> dict[str, set[str]]:
    """Names of the classes inside layers, such as cells, each with the packages that it is of.

    Keras 2 writes the package beside the name there, and does not read it back from HDF5.
    """
    found: dict[str, set[str]] = {}
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            package, bar, _ = str(config.get("registered_name") or "").partition(">")
            found[config["class_name"]] = {package if bar else ""}
        config = list(config.values())
    for inner in config if isinstance(config, list) else ():
        for name, packages in _inner_classes(inner).items():
            found.setdefault(name, set()).update(packages)
    return found


def _import_addons(path: Path, description: _Description, major: str) -> None:
    """Importing TensorFlow Addons is what makes its layers known to Keras."""
    text = (
        description.config
        if isinstance(description.config, str)
        else json.dumps(description.config)
    )
    if "Addons>" not in text:
        return
    if major != "2":
        raise ModelFileError(
            f"{path}: has TensorFlow Addons layers, which need TensorFlow 2.15 or older: install "
            "'onnxnorm[tfa]' in an environment of its own"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorflow_addons  # noqa: F401 # registers its layers
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: has TensorFlow Addons layers: install 'onnxnorm[tfa]' ({error})"
        ) from error


def _why_not(path: Path, description: _Description, major: str, error: Exception) -> str:
    saved_by = description.keras_version.partition(".")[0]
    if saved_by and saved_by != major:
        extra = "onnxnorm[keras]" if saved_by == "3" else "onnxnorm[tfa]"
        return (
            f"{path}: saved by Keras {description.keras_version}, and the installed Keras {major} "
            f"cannot load it: install '{extra}' in an environment of its own ({_brief(error)})"
        )
    text = str(error)
    if "Unknown layer" in text or "Could not locate class" in text or "custom_object" in text:
        return (
            f"{path}: has a class that Keras does not know; import the module that defines and "
            f"registers it, or convert the model object ({_brief(error)})"
        )
    return f"{path}: Keras cannot load it: {_brief(error)}"


def _brief(error: Exception, limit: int = 300) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[:limit] + "…"
