"""Model files that load, and files that must not: damaged, foreign, unsafe or of another world."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

tf = pytest.importorskip("tensorflow")

import onnxnorm  # noqa: E402
from onnxnorm import ConversionError, ModelFileError  # noqa: E402
from onnxnorm.frameworks.files import load  # noqa: E402
from onnxnorm.frameworks.formula import class_path  # noqa: E402
from tests.conversion.keras_cases import KERAS_2, Subclassed, functional, randomized  # noqa: E402
from tests.conversion.test_conversion import norm_nodes, run  # noqa: E402

L = tf.keras.layers
KERAS_VERSION = "2.15.0" if KERAS_2 else "3.15.1"
SUFFIXES = [".keras", ".h5", *([""] if KERAS_2 else [])]
X = np.random.default_rng(3).normal(size=(2, 8, 8, 3)).astype(np.float32)

needs_addons = pytest.mark.skipif(not KERAS_2, reason="tensorflow-addons is not installed")


def network() -> Any:
    norms = [L.LayerNormalization(name="layer")]
    if KERAS_2:
        import tensorflow_addons as tfa

        norms += [
            tfa.layers.GroupNormalization(2, name="group", gamma_regularizer="l2"),
            tfa.layers.InstanceNormalization(name="instance", beta_initializer="random_uniform"),
        ]
    return randomized(functional((8, 8, 3), L.Conv2D(4, 3), *norms))


@pytest.fixture(params=SUFFIXES, ids=lambda suffix: suffix or "SavedModel")
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Path]:
    model, path = network(), tmp_path / f"model{request.param}"
    model.save(path)
    return model, path


def test_saved_model_converts(saved: tuple[Any, Path]) -> None:
    model, path = saved
    result = onnxnorm.convert(path)
    wanted = ["layer", "group", "instance"] if KERAS_2 else ["layer"]
    assert [node.name for node in norm_nodes(result.model)] == wanted
    assert [layer.name for layer in result.layers] == wanted
    np.testing.assert_allclose(run(result.model, [X])[0], np.asarray(model(X)), atol=2e-5)
    assert onnxnorm.convert(str(path)).layers == result.layers


def test_saved_model_converts_in_a_new_process(saved: tuple[Any, Path]) -> None:
    """Where nothing has imported TensorFlow Addons yet."""
    _, path = saved
    output = path.with_name("new.onnx")
    command = [sys.executable, "-m", "onnxnorm", "convert", str(path), "-o", str(output)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    assert len(norm_nodes(onnx.load(output))) == (3 if KERAS_2 else 1)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_truncated_file(saved: tuple[Any, Path], kept: float) -> None:
    _, path = saved
    victim = path / "saved_model.pb" if path.is_dir() else path
    content = victim.read_bytes()
    victim.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ModelFileError, match="model"):
        load(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_flipped_bytes(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    model = network()
    model.save(path)
    content = bytearray(path.read_bytes())
    for position in range(200, len(content) // 2, 97):
        content[position] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(ModelFileError, match="model"):
        load(path)


def test_missing_variables_of_a_saved_model(tmp_path: Path) -> None:
    if not KERAS_2:
        pytest.skip("Keras 3 does not load a SavedModel")
    path = tmp_path / "model"
    network().save(path)
    for file in (path / "variables").iterdir():
        file.unlink()
    with pytest.raises(ModelFileError, match="model"):
        load(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.keras", b"not a model", "neither a .keras archive nor an HDF5 file"),
        ("a.h5", b"", "neither a .keras archive nor an HDF5 file"),
        ("a.onnx", b"\x08\x08", "neither a .keras archive nor an HDF5 file"),
    ],
)
def test_no_model_file(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        load(tmp_path / name)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file or directory"):
        onnxnorm.convert(tmp_path / "absent.keras")


def test_directory_that_is_no_saved_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no saved_model\.pb"):
        load(tmp_path)


def test_zip_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ModelFileError, match=r"no config\.json"):
        load(path)


def test_weights_without_a_model(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    network().save_weights(path)
    with pytest.raises(ModelFileError, match=r"weights without a model"):
        load(path)


def test_saved_model_without_keras(tmp_path: Path) -> None:
    class Plain(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def __call__(self, x: Any) -> Any:
            return x

    tf.saved_model.save(Plain(), tmp_path / "plain")
    with pytest.raises(ModelFileError, match="without Keras layers"):
        load(tmp_path / "plain")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_code_in_a_file_is_refused_until_allowed(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    model = functional((4,), L.Lambda(lambda x: x * 2, output_shape=(4,)), L.LayerNormalization())
    model.save(path)
    with pytest.raises(ModelFileError, match=r"Lambda layer.*safe_mode=False"):
        onnxnorm.convert(path)
    assert len(norm_nodes(onnxnorm.convert(path, safe_mode=False).model)) == 1


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"module": "os", "class_name": "function", "config": "system"}, r"os\.system"),
        ({"module": "builtins", "class_name": "function", "config": "eval"}, "built-in .*eval"),
        ({"module": "evil_package", "class_name": "Layer", "config": {}}, "not imported"),
    ],
)
def test_names_that_loading_would_import_are_refused(
    entry: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.keras"
    config = written(2 if KERAS_2 else 3)
    config["config"]["layers"][1]["config"]["activation"] = entry
    write_archive(path, KERAS_VERSION, config)
    with pytest.raises(ModelFileError, match=message):
        load(path)


def test_unknown_class(tmp_path: Path) -> None:
    class Mine(L.Layer):
        def call(self, x: Any) -> Any:
            return x

    path = tmp_path / "model.h5"
    functional((4,), Mine()).save(path)
    with pytest.raises(ModelFileError, match="a class that Keras does not know"):
        load(path)


@needs_addons
def test_subclassed_model_in_a_saved_model(tmp_path: Path) -> None:
    """Keras loads it without its class, so it calls functions of the file, not its layers."""
    import tensorflow_addons as tfa

    norms = [
        L.LayerNormalization(name="layer"),
        tfa.layers.GroupNormalization(4, name="group", center=False),
        tfa.layers.InstanceNormalization(name="instance", scale=False),
        L.LayerNormalization(axis=[1, 2], epsilon=1e-6, name="space"),
        L.BatchNormalization(name="batch"),
        tfa.layers.FilterResponseNormalization(learned_epsilon=True, name="response"),
    ]
    model = Subclassed(*norms)
    model(X)
    model = randomized(model)
    wanted = model(X)
    model.save(tmp_path / "model")
    result = onnxnorm.convert(tmp_path / "model")
    nodes = ["layer", "group", "instance", "space", "response"]
    assert [n.name for n in norm_nodes(result.model)] == nodes
    assert [record.lowering for record in result.layers] == [*["custom"] * 4, "native", "custom"]
    for y, name in zip(run(result.model, [X]), ("features", "mean"), strict=True):
        np.testing.assert_allclose(y, wanted[name], atol=2e-5)


@needs_addons
@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda tfa: L.RNN(tfa.rnn.LayerNormSimpleRNNCell(3)), L.LayerNormalization),
        # Keras has a layer of the same name, and takes that.
        (lambda tfa: L.TimeDistributed(tfa.layers.GroupNormalization(2)), None),
    ],
    ids=["cell", "wrapped layer"],
)
def test_addons_inside_other_layers_of_an_hdf5_file(make: Any, found: Any, tmp_path: Path) -> None:
    import tensorflow_addons as tfa

    functional((5, 4), make(tfa)).save(tmp_path / "model.h5")
    (record,) = onnxnorm.convert(tmp_path / "model.h5").layers
    assert record.layer_class == class_path((found or tfa.layers.GroupNormalization)())


@needs_addons
def test_layer_inside_a_restored_custom_layer_is_refused(tmp_path: Path) -> None:
    class Block(L.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.norm = L.LayerNormalization(name="inside")

        def call(self, x: Any) -> Any:
            return 2.0 * self.norm(x)

    functional((8, 8, 3), Block(), L.LayerNormalization(name="outside")).save(tmp_path / "model")
    with pytest.raises(ConversionError, match=r"'inside'.*custom layer"):
        onnxnorm.convert(tmp_path / "model")


@needs_addons
def test_weights_folded_in_a_restored_model_are_refused(tmp_path: Path) -> None:
    import tensorflow_addons as tfa

    model = Subclassed(tfa.layers.WeightNormalization(L.Conv2D(4, 3), name="weight"))
    model(X)
    model.save(tmp_path / "model")
    with pytest.raises(ConversionError, match=r"'weight'.*restored from a SavedModel"):
        onnxnorm.convert(tmp_path / "model")


@needs_addons
def test_restored_layers_that_share_a_name_are_refused(tmp_path: Path) -> None:
    model = Subclassed(L.LayerNormalization(name="twin"), L.LayerNormalization(name="twin"))
    model(X)
    model.save(tmp_path / "model")
    with pytest.raises(ConversionError, match=r"'twin': 2 layers have this name"):
        onnxnorm.convert(tmp_path / "model")


def test_exported_model(tmp_path: Path) -> None:
    functional((4,), L.Dense(3)).export(str(tmp_path / "exported"))
    with pytest.raises(ModelFileError, match="without Keras layers, such as model"):
        load(tmp_path / "exported")


def write_archive(path: Path, version: str, config: Any) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("config.json", json.dumps(config))


def write_hdf5(path: Path, version: str, config: Any) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version
        file.attrs["model_config"] = json.dumps(config)
        file.create_group("model_weights").attrs["layer_names"] = []


def write_saved_model(path: Path, version: str, config: Any) -> None:
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"\x08\x01")
    (path / "keras_metadata.pb").write_bytes(json.dumps(config).encode())


WRITERS = {".keras": write_archive, ".h5": write_hdf5, "": write_saved_model}


def written(keras: int, class_name: str = "Dense", **names: str) -> dict[str, Any]:
    """What a functional model of one layer looks like in the files of one Keras."""
    shape = {2: "batch_input_shape", 3: "batch_shape"}[keras]
    module = {2: "keras.src.engine.functional", 3: "keras.src.models.functional"}[keras]
    inputs = {"name": "x", shape: [None, 4], "dtype": "float32"}
    layers = [
        {"module": "keras.layers", "class_name": "InputLayer", "config": inputs, "name": "x"},
        {"class_name": class_name, "config": {"name": "y"}, "name": "y", **names},
    ]
    for layer in layers:
        layer["inbound_nodes"] = []
    config = {"name": "m", "layers": layers, "input_layers": [], "output_layers": []}
    return {"module": module, "class_name": "Functional", "config": config}


ADDONS = written(2, "Addons>GroupNormalization", registered_name="Addons>GroupNormalization")
# What the installed Keras cannot load, though nothing of the other Keras is installed to write it.
OTHER_WORLD = (
    [
        (suffix, "3.15.1", written(3), r"saved by Keras 3\.15\.1.*\[keras\]")
        for suffix in (".keras", ".h5")
    ]
    if KERAS_2
    else [
        (".keras", "2.15.0", written(2), r"saved by Keras 2\.15\.0.*\[tfa\]"),
        ("", "2.15.0", written(2), r"saved by Keras 2.*\[tfa\]"),
        *((suffix, "2.15.0", ADDONS, r"TensorFlow Addons layers.*\[tfa\]") for suffix in WRITERS),
    ]
)


@pytest.mark.parametrize(("suffix", "version", "config", "message"), OTHER_WORLD)
def test_file_of_the_other_world(
    suffix: str, version: str, config: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / f"model{suffix}"
    WRITERS[suffix](path, version, config)
    with pytest.raises(ModelFileError, match=message):
        load(path)
