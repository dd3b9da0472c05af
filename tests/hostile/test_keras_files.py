"""A Keras file from a stranger does nothing: it loads, or is refused in one line."""

from __future__ import annotations

import copy
import io
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
h5py = pytest.importorskip("h5py")

from onnxnorm import ModelFileError  # noqa: E402
from onnxnorm.frameworks import allowed  # noqa: E402
from onnxnorm.frameworks.files import load  # noqa: E402
from tests.conversion.keras_cases import KERAS_2, functional  # noqa: E402

L = tf.keras.layers
only_keras_2 = pytest.mark.skipif(not KERAS_2, reason="Keras 3 has no such layer, or no SavedModel")
only_keras_3 = pytest.mark.skipif(KERAS_2, reason="Keras 2 has no such layer")


@pytest.fixture(scope="module", params=[".h5", ".keras"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An honest file of a Dense layer named "y"."""
    path = tmp_path_factory.mktemp("honest") / f"model{request.param}"
    functional((4,), L.Dense(3, activation="relu", name="y")).save(path)
    return path


def changed(file: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of a model file with its configuration changed in place, or as returned."""
    path = tmp_path / file.name
    shutil.copy(file, path)
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as opened:
            config = json.loads(opened.attrs["model_config"])
            opened.attrs["model_config"] = json.dumps(change(config) or config)
        return path
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    members["config.json"] = json.dumps(change(config) or config).encode()
    write_archive(path, members)
    return path


def write_archive(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def dense(config: dict[str, Any]) -> dict[str, Any]:
    layers: list[dict[str, Any]] = config["config"]["layers"]
    return next(layer for layer in layers if layer["config"]["name"] == "y")


def in_an_activation(entry: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: dense(config)["config"].update(activation=entry)


def instead_of_the_layer(class_name: str, **options: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        layer = dense(config)
        layer.update(class_name=class_name, config={"name": "y", **options})
        if "module" in layer:
            layer.update(module="keras.layers", registered_name=None)

    return change


def inside(wrapper: str) -> Callable[[dict[str, Any]], None]:
    """A Lambda layer inside another layer."""
    inner = {"class_name": "Lambda", "config": {"name": "z", "function": ["4wEA", None, None]}}
    return instead_of_the_layer(wrapper, layer=inner)


def in_a_nested_model(config: dict[str, Any]) -> None:
    inner = copy.deepcopy(config)
    in_an_activation({"class_name": "function", "module": "os", "config": "system"})(inner)
    layer = dense(config)
    layer.update({key: inner[key] for key in ("class_name", "config") if key in inner})


def in_the_compile_config(config: dict[str, Any]) -> None:
    dense(config)["compile_config"] = {
        "loss": {"class_name": "function", "module": "subprocess", "config": "call"}
    }


def function_entry(module: str, name: str) -> dict[str, Any]:
    return {"class_name": "function", "module": module, "config": name, "registered_name": name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (in_an_activation(function_entry("os", "system")), r"os\.system"),
        (in_an_activation(function_entry("builtins", "exec")), "built-in .*exec"),
        (in_an_activation(function_entry("keras.utils", "get_file")), r"get_file"),
        (in_an_activation(function_entry("keras.saving", "load_model")), "load_model"),
        (in_an_activation(function_entry("keras.config", "enable_unsafe_deserialization")), "un"),
        (in_an_activation(function_entry("tensorflow.io", "write_file")), "write_file"),
        (in_an_activation(function_entry("numpy", "load")), "load"),
        (in_an_activation({"class_name": "__lambda__", "config": {"value": "x"}}), "Lambda"),
        (instead_of_the_layer("Lambda", function=["4wEA", None, None]), "Lambda layer"),
        (instead_of_the_layer("StringLookup", vocabulary="/etc/passwd"), "/etc/passwd"),
        (instead_of_the_layer("IntegerLookup", vocabulary="http://a/b"), "http://a/b"),
        (instead_of_the_layer("TextVectorization", vocabulary="v.txt"), "'v.txt'"),
        (inside("TimeDistributed"), "Lambda layer"),
        (inside("Bidirectional"), "Lambda layer"),
        (in_a_nested_model, r"os\.system"),
        (in_the_compile_config, r"subprocess\.call"),
        pytest.param(
            instead_of_the_layer("TFSMLayer", filepath="/tmp/x"), "TFSMLayer", marks=only_keras_3
        ),
        pytest.param(
            instead_of_the_layer("TorchModuleWrapper", module="UEs"),
            "TorchModuleWrapper",
            marks=only_keras_3,
        ),
        *[
            pytest.param(
                instead_of_the_layer("TFOpLambda", function=name), name, marks=only_keras_2
            )
            for name in (
                "io.write_file",
                "io.read_file",
                "io.gfile.remove",
                "py_function",
                "numpy_function",
                "print",
                "load_op_library",
                "summary.write",
                "saved_model.load",
                "data.Dataset.from_tensors",
                "raw_ops.WriteFile",
                "config.set_visible_devices",
                "keras.utils.get_file",
                "compat.v1.py_func",
                "compat.v1.load_library",
                "keras.backend.print_tensor",
                "debugging.enable_check_numerics",
                "distribute.get_strategy",
                "nn.no.such",
            )
        ],
        pytest.param(
            instead_of_the_layer("ClassMethod", cls_symbol="io.gfile.GFile", method_name="write"),
            "GFile",
            marks=only_keras_2,
        ),
        pytest.param(
            instead_of_the_layer("InstanceMethod", attr_name="__reduce__"),
            "__reduce__",
            marks=only_keras_2,
        ),
        pytest.param(
            instead_of_the_layer("TensorFlowOpLayer", node_def={"name": "n", "op": "WriteFile"}),
            "WriteFile",
            marks=only_keras_2,
        ),
    ],
)
def test_what_is_not_known_is_refused(
    file: Path, change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match=message):
        load(changed(file, tmp_path, change))


@only_keras_2
def test_a_function_fed_by_constants_alone_does_not_run(tmp_path: Path) -> None:
    """It would while Keras loads the file, with any sizes."""
    x = tf.keras.Input((4,))
    tf.keras.Model(x, tf.fill(tf.shape(x), 1.0)).save(tmp_path / "model.h5")

    def constants(config: dict[str, Any]) -> None:
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "TFOpLambda":
                layer["inbound_nodes"] = [["_CONSTANT_VALUE", -1, [10**9, 10**9], {}]]

    (tmp_path / "to").mkdir()
    with pytest.raises(ModelFileError, match="called on constants alone"):
        load(changed(tmp_path / "model.h5", tmp_path / "to", constants))


def test_what_the_user_has_registered_is_allowed() -> None:
    class Mine(L.Layer):
        pass

    entry = {"class_name": "Mine", "config": {"name": "m"}}
    assert list(allowed.refusals(entry))
    with tf.keras.utils.custom_object_scope({"Mine": Mine}):
        assert not list(allowed.refusals(entry))


def nested(levels: int) -> dict[str, Any]:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return {"class_name": "Functional", "config": {"name": "m", "layers": [], "x": value}}


def many_layers(config: dict[str, Any]) -> None:
    config["config"]["layers"] += [dense(config)] * 30_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: nested(500), "nested more than 200 levels"),
        (many_layers, "more than 20,000 layers"),
        (
            lambda config: dense(config)["config"].update(units=10**9),
            "'y' asks for a weight of shape",
        ),
    ],
)
def test_work_is_bounded(
    file: Path, change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match=message):
        load(changed(file, tmp_path, change))


def test_json_too_deep_for_its_parser(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    text = "[" * 100_000 + "]" * 100_000
    write_archive(path, {"config.json": text.encode(), "metadata.json": b"{}"})
    with pytest.raises(ModelFileError, match="nested more than 200 levels"):
        load(path)


def test_configuration_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    write_archive(path, {"config.json": b" " * (65 * 2**20), "metadata.json": b"{}"})
    with pytest.raises(ModelFileError, match="at most 67,108,864 are read"):
        load(path)


def link(opened: Any, path: Path) -> None:
    opened["other"] = h5py.ExternalLink(str(path), "/")


def soft_link(opened: Any, path: Path) -> None:
    opened["other"] = h5py.SoftLink("/model_weights")


def external_storage(opened: Any, path: Path) -> None:
    opened.create_dataset("other", (4,), "u1", external=[(str(path), 0, 4)])


def virtual(opened: Any, path: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(path), "x", (4,))
    opened.create_virtual_dataset("other", layout)


def huge(opened: Any, path: Path) -> None:
    opened.create_dataset("other", (10**9, 10**9), "f4", chunks=(1, 1024), compression="gzip")


HDF5_ATTACKS = [
    (link, "link to somewhere else"),
    (soft_link, "link to somewhere else"),
    (external_storage, "kept in another file"),
    (virtual, "kept in another file"),
    (huge, r"has the shape \(1000000000, 1000000000\)"),
]


@pytest.mark.parametrize(("attack", "message"), HDF5_ATTACKS)
def test_hdf5_that_refers_to_other_files_or_is_too_large(
    file: Path, attack: Callable[[Any, Path], None], message: str, tmp_path: Path
) -> None:
    path = tmp_path / file.name
    if path.suffix == ".h5":
        shutil.copy(file, path)
        with h5py.File(path, "r+") as opened:
            attack(opened, tmp_path / "secret")
    else:
        with zipfile.ZipFile(file) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        weights = io.BytesIO(members["model.weights.h5"])
        with h5py.File(weights, "r+") as opened:
            attack(opened, tmp_path / "secret")
        write_archive(path, {**members, "model.weights.h5": weights.getvalue()})
    with pytest.raises(ModelFileError, match=message):
        load(path)


def symlink_member() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("assets/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("../evil", "leads outside"),
        ("/etc/evil", "leads outside"),
        ("assets/../../evil", "leads outside"),
        (symlink_member(), "is a link"),
        ("config.json", "is there twice"),
        ("model.weights.npz", "none that a Keras archive has"),
        ("evil.py", "none that a Keras archive has"),
    ],
)
def test_archive_members(member: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    functional((4,), L.Dense(3)).save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, b"x")
    with pytest.raises(ModelFileError, match=message):
        load(path)


def test_zip_bomb(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    functional((4,), L.Dense(3)).save(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(2**26))
    with pytest.raises(ModelFileError, match="inflates to more than 100 times"):
        load(path)


def make_socket(path: Path) -> None:
    folder = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(folder)


@pytest.mark.parametrize("make", [os.mkfifo, make_socket])
@pytest.mark.parametrize("name", ["model.h5", "model.keras", "model/variables"])
def test_neither_file_nor_directory(make: Any, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    (path.parent / "saved_model.pb").touch()
    make(path)
    with pytest.raises(ModelFileError, match="neither a regular file nor a directory"):
        load(tmp_path / Path(name).parts[0])


def saved(layer: Any, path: Path) -> Path:
    functional((4,), layer).save(path)
    return path


def touch_file(x: Any, path: Path) -> Any:
    tf.io.write_file(str(path), "evil")
    return x


def read_file(x: Any, path: Path) -> Any:
    return x + tf.cast(tf.strings.length(tf.io.read_file(str(path))), tf.float32)


def call_python(x: Any, path: Path) -> Any:
    return tf.py_function(lambda y: y, [x], tf.float32)


def print_to_file(x: Any, path: Path) -> Any:
    tf.print("evil", output_stream=f"file://{path}")
    return x


def save_checkpoint(x: Any, path: Path) -> Any:
    tf.raw_ops.SaveV2(
        prefix=str(path), tensor_names=["x"], shape_and_slices=[""], tensors=[tf.constant(1.0)]
    )
    return x


def foreign_table(x: Any, path: Path) -> Any:
    table = tf.raw_ops.MutableHashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
    tf.raw_ops.InitializeTableFromTextFileV2(
        table_handle=table, filename=str(path), key_index=-2, value_index=-1
    )
    return x


@only_keras_2
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (touch_file, "WriteFile"),
        (read_file, "ReadFile"),
        (call_python, "EagerPyFunc"),
        (print_to_file, "PrintV2"),
        (save_checkpoint, "checkpoint"),
        (foreign_table, "not its asset"),
    ],
)
def test_graph_of_a_saved_model(
    function: Callable[[Any, Path], Any], message: str, tmp_path: Path
) -> None:
    class Block(L.Layer):
        def call(self, x: Any) -> Any:
            if tf.executing_eagerly():
                return x
            return function(x, tmp_path / "touched")

    path = saved(Block(), tmp_path / "model")
    (tmp_path / "touched").unlink(missing_ok=True)
    with pytest.raises(ModelFileError, match=message):
        load(path)
    assert not (tmp_path / "touched").exists()


@only_keras_2
def test_a_function_does_not_hide_an_operation_of_its_name(tmp_path: Path) -> None:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = saved(L.Dense(3), tmp_path / "model") / "saved_model.pb"
    saved_model = SavedModel.FromString(path.read_bytes())
    saved_model.meta_graphs[0].graph_def.node.add(name="n", op="WriteFile")
    function = saved_model.meta_graphs[0].graph_def.library.function.add()
    function.signature.name = "WriteFile"
    path.write_bytes(saved_model.SerializeToString())
    with pytest.raises(ModelFileError, match="its function 'WriteFile', which has the name of an"):
        load(path.parent)


@only_keras_2
def test_saved_model_with_links_and_foreign_assets(tmp_path: Path) -> None:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = saved(L.Dense(3), tmp_path / "model")
    load(path)
    graph = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    graph.meta_graphs[0].asset_file_def.add(filename="../../secret").tensor_info.name = "x:0"
    (path / "saved_model.pb").write_bytes(graph.SerializeToString())
    with pytest.raises(ModelFileError, match=r"'\.\./\.\./secret'"):
        load(path)
    (path / "assets" / "link").symlink_to("/etc/passwd")
    with pytest.raises(ModelFileError, match="a link that leads out of the SavedModel"):
        load(path)


@only_keras_2
def test_metadata_of_a_saved_model(tmp_path: Path) -> None:
    path = saved(L.Dense(3, name="y"), tmp_path / "model")
    metadata = path / "keras_metadata.pb"
    from keras.protobuf.saved_metadata_pb2 import SavedMetadata

    nodes = SavedMetadata.FromString(metadata.read_bytes())
    for node in nodes.nodes:
        node.metadata = node.metadata.replace('"Dense"', '"Lambda"')
    metadata.write_bytes(nodes.SerializeToString())
    with pytest.raises(ModelFileError, match="Lambda layer"):
        load(path)


@only_keras_2
@pytest.mark.parametrize("from_file", [False, True])
def test_a_table_from_an_asset_is_allowed(from_file: bool, tmp_path: Path) -> None:
    words = ["a", "b", "c"]
    (tmp_path / "words.txt").write_text("\n".join(words))
    x = tf.keras.Input((2,), dtype=tf.string)
    lookup = L.StringLookup(vocabulary=str(tmp_path / "words.txt") if from_file else words)
    tf.keras.Model(x, lookup(x)).save(tmp_path / "model")
    if from_file:
        # Its configuration names the file, which Keras reads, and not the asset.
        with pytest.raises(ModelFileError, match="its vocabulary is to be read from the file"):
            load(tmp_path / "model")
    else:
        model = load(tmp_path / "model")
        np.testing.assert_array_equal(model(tf.constant([["b", "z"]])), [[2, 0]])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_crash_is_told(file: Path, tmp_path: Path) -> None:
    """A child that dies of a signal is one line and status 2, and leaves no temporary file."""
    (tmp_path / "tensorflow").mkdir()
    crash = (
        "import os, pathlib, signal, tempfile\n"
        "pathlib.Path(tempfile.gettempdir(), 'left').touch()\n"
        f"pathlib.Path({str(tmp_path)!r}, f'.onnxnorm-{{os.getpid()}}-12345678').touch()\n"
        "os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    (tmp_path / "tensorflow" / "__init__.py").write_text(crash)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "onnxnorm", "convert", str(file), "-o"]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    outcome = subprocess.run(
        [*command, str(tmp_path / "o.onnx")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(temporary)},
    )
    assert outcome.returncode == 2, outcome.stderr
    assert "TensorFlow crashed (segmentation fault) in: onnxnorm convert" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert not list(temporary.iterdir())
    assert not list(tmp_path.glob(".onnxnorm-*"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_file_that_is_never_done_is_told(file: Path, tmp_path: Path) -> None:
    """Loading that ends never, in code that Python cannot interrupt, is ended by the system."""
    code = (
        "import sys\n"
        "from onnxnorm import cli\n"
        "from onnxnorm.frameworks import bounds, files\n"
        "bounds.MAX_SECONDS = 0\n"
        "def never_done(path):\n"
        "    while True: pass\n"
        "files._describe = never_done\n"
        "sys.exit(cli.main())\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code, "convert", str(file), "-o", str(tmp_path / "o.onnx")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 2, outcome.stderr
    assert "loading the model took more than 0 s of CPU time" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not count it")
def test_a_layer_gets_no_more_memory_than_a_file_needs(tmp_path: Path) -> None:
    """Constants of a layer that are no weights: here 16 GB for a mean."""
    honest = tmp_path / "model.keras"
    functional((10**9, 4), L.Dense(3, name="y")).save(honest)
    (tmp_path / "to").mkdir()
    values = {"mean": [0.0] * 4, "variance": [1.0] * 4}
    change = instead_of_the_layer("Normalization", axis=[-2, -1], **values)
    path = changed(honest, tmp_path / "to", change)
    outcome = subprocess.run(
        [sys.executable, "-m", "onnxnorm", "convert", str(path), "-o", str(tmp_path / "o.onnx")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 2, outcome.stderr
    assert "takes more memory to load than 8 GiB" in outcome.stderr or "OOM" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert not (tmp_path / "o.onnx").exists()
