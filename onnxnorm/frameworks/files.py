"""Loads a Keras model from a file that nobody vouches for."""

from __future__ import annotations

import builtins
import json
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxnorm.errors import MissingDependencyError, ModelFileError

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class _Description:
    """What a model file says of itself, read without running anything of it."""

    format: str
    keras_version: str
    config: Any


def load(path: Path, safe_mode: bool = True) -> Any:
    """The Keras model in a ``.keras`` or ``.h5`` file or a SavedModel directory, uncompiled.

    Args:
        path: the file or directory.
        safe_mode: refuse files that hold code, or name code outside Keras to be imported.

    Raises:
        ModelFileError: the file is missing, damaged, not a whole Keras model, unsafe, or made
            for another version of Keras.
        MissingDependencyError: TensorFlow, or TensorFlow Addons for its layers, is missing.
    """
    from onnxnorm.capture import tensorflow

    if not path.exists():
        raise ModelFileError(f"{path}: no such file or directory")
    tf = tensorflow()
    description = _describe(path)
    keras = sys.modules[tf.keras.Model.__module__.partition(".")[0]]
    major = keras.__version__.partition(".")[0]
    _import_addons(path, description, major)
    if safe_mode:
        for reason in _unsafe(description.config):
            raise ModelFileError(
                f"{path}: {reason}, which loading could run. If you trust the file, allow it: "
                "convert(..., safe_mode=False) or --no-safe-mode"
            )
    arguments: dict[str, Any] = {"compile": False}
    if not safe_mode and description.format != "SavedModel":
        arguments["safe_mode"] = False
    if description.format == "HDF5":
        arguments["custom_objects"] = {
            name: tf.keras.utils.get_registered_object(f"Addons>{name}")
            for name, packages in _inner_classes(description.config).items()
            if packages == {"Addons"}
        }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = tf.keras.models.load_model(path, **arguments)
    except Exception as error:
        raise ModelFileError(_why_not(path, description, major, error)) from error
    if not isinstance(model, tf.keras.Model):
        raise ModelFileError(
            f"{path}: holds a {type(model).__name__}, not a Keras model; save the model with "
            "model.save, or convert the model object"
        )
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
    if metadata.is_file():
        return _Description("SavedModel", "2", metadata.read_bytes().decode("utf-8", "replace"))
    # TensorFlow before 2.5 kept the layers' configurations in the graph's file.
    content = graph.read_bytes()
    if b"_tf_keras_" not in content:
        raise ModelFileError(
            f"{path}: a SavedModel without Keras layers, such as model.export and "
            "tf.saved_model.save write; save the model with model.save, or convert the model object"
        )
    return _Description("SavedModel", "2", content.decode("utf-8", "replace"))


def _describe_archive(path: Path) -> _Description:
    if path.suffix != ".keras":
        raise ModelFileError(f"{path}: a zip archive; a Keras archive's name ends with .keras")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if "config.json" not in names:
            raise ModelFileError(f"{path}: no config.json in it, so it is no Keras archive")
        damaged = archive.testzip()
        if damaged:
            raise ModelFileError(f"{path}: damaged: {damaged} fails its checksum")
        config = json.loads(archive.read("config.json"))
        metadata = json.loads(archive.read("metadata.json")) if "metadata.json" in names else {}
    return _Description("Keras archive", str(metadata.get("keras_version", "")), config)


def _describe_hdf5(path: Path) -> _Description:
    import h5py

    with h5py.File(path, "r") as file:
        config = file.attrs.get("model_config")
        if config is None:
            raise ModelFileError(
                f"{path}: holds weights without a model; save the whole model with model.save"
            )
        text = config.decode() if isinstance(config, bytes) else config
        return _Description("HDF5", str(file.attrs.get("keras_version", "")), json.loads(text))


def _unsafe(config: Any) -> Iterator[str]:
    """Reasons why loading could run code that came with the file or that it points to."""
    if isinstance(config, str):
        if re.search(r'"class_name":\s*"(Lambda|__lambda__)"', config):
            yield "it has a Lambda layer with code in it"
        return
    if isinstance(config, dict):
        name = config.get("class_name")
        if name in ("Lambda", "__lambda__"):
            inner = config.get("config")
            layer = inner.get("name", "") if isinstance(inner, dict) else ""
            yield f"it has a Lambda layer {layer!r} with code in it"
        module = config.get("module")
        if isinstance(module, str) and name is not None:
            target = config["config"] if name == "function" else name
            root = module.partition(".")[0]
            if root == "builtins" and isinstance(target, str) and hasattr(builtins, target):
                yield f"it names the built-in function {target!r}"
            elif root != "builtins" and root in sys.stdlib_module_names:
                yield f"it names {module}.{target}"
            elif root not in sys.modules:
                yield f"it names {module}.{target}, from a module that is not imported"
    values = config.values() if isinstance(config, dict) else config
    if isinstance(config, (dict, list)):
        for value in values:
            if not isinstance(value, str):
                yield from _unsafe(value)


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
