"""Models and a way to call the command line."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.parser
import pytest

from onnxnorm import cli
from onnxnorm.opset import OPERATORS, function

# One custom node with its function, one native node, and one custom node in a branch.
NORM_MODEL = """
<ir_version: 9, opset_import: ["" : 18, "onnxnorm" : 1]>
norms (float[N,4,5,5] x, bool choose) => (float[N,4,5,5] y, float[N,4,5,5] z)
<float[4] scale = {1,2,3,4}, float[4] bias = {0,0,0,0}, float[5] last = {1,1,1,1,1}>
{
    [group] y = onnxnorm.GroupNormalization <axis = 1, num_groups = 2, epsilon = 0.001> (x, scale, bias)
    [instance] w = InstanceNormalization (y, scale, bias)
    [choice] z = If (choose) <
        then_branch = one () => (float[N,4,5,5] a) {
            [layer] a = onnxnorm.LayerNormalization <axes = [3], epsilon = 0.01> (w, last, last)
        },
        else_branch = other () => (float[N,4,5,5] b) { b = Identity (w) }
    >
}
"""  # noqa: E501 # one node, one line


@dataclass(frozen=True)
class Outcome:
    """What a call of the command line left."""

    status: int
    out: str
    err: str


@pytest.fixture
def onnxnorm_cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Calls the command line in this process."""

    def call(*arguments: object) -> Outcome:
        status = cli.main([str(argument) for argument in arguments])
        return Outcome(status, *capfd.readouterr())

    return call


@pytest.fixture
def norm_model() -> onnx.ModelProto:
    model = onnx.parser.parse_model(NORM_MODEL)
    model.functions.append(function(OPERATORS["GroupNormalization"], 18))
    return model


@pytest.fixture
def norm_file(norm_model: onnx.ModelProto, tmp_path: Path) -> Path:
    path = tmp_path / "norms.onnx"
    onnx.save(norm_model, path)
    return path


@pytest.fixture(scope="session")
def keras_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A group norm and a layer norm, in a file of the Keras that is installed."""
    layers = pytest.importorskip("tensorflow").keras.layers
    if importlib.util.find_spec("tensorflow_addons"):
        groups, name = pytest.importorskip("tensorflow_addons").layers, "model.h5"
    else:
        groups, name = layers, "model.keras"
    x = layers.Input((5, 5, 4), name="image")
    y = layers.LayerNormalization(name="layer")(groups.GroupNormalization(2, name="group")(x))
    path = tmp_path_factory.mktemp("keras") / name
    pytest.importorskip("tensorflow").keras.Model(x, y).save(path)
    return path
