"""What the installed distribution holds."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

import onnxnorm

try:
    DISTRIBUTION = metadata.distribution("onnxnorm")
except metadata.PackageNotFoundError:
    pytest.skip("onnxnorm is used from the checkout, not installed", allow_module_level=True)


def test_the_tests_see_the_installed_package():
    assert Path(onnxnorm.__file__) == DISTRIBUTION.locate_file("onnxnorm/__init__.py")
    assert DISTRIBUTION.version == onnxnorm.__version__


def test_the_wheel_serves_every_python_of_its_platform():
    (tag,) = (
        line.removeprefix("Tag: ")
        for line in (DISTRIBUTION.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag: ")
    )
    assert tag.startswith("py3-none-")
    assert tag != "py3-none-any"


def test_it_holds_the_package_the_libraries_and_nothing_else():
    files = {str(file) for file in DISTRIBUTION.files or ()}
    folders = {file.split("/")[0] for file in files if not file.startswith("..")}
    assert folders == {"onnxnorm", f"onnxnorm-{onnxnorm.__version__}.dist-info"}
    assert {"onnxnorm/py.typed", "onnxnorm/parity/__init__.py"} < files
    library = Path(DISTRIBUTION.locate_file("onnxnorm/lib"))
    libraries = {file.name.split(".")[0] for file in library.iterdir()}
    # The one for CUDA is built where nvcc is.
    assert libraries - {"libonnxnorm_cuda"} == {"libonnxnorm_cpu"}


def test_extras_and_command():
    extras = set(DISTRIBUTION.metadata.get_all("Provides-Extra") or ())
    assert extras == {"tfa", "keras", "cpu", "gpu", "dev"}
    (command,) = DISTRIBUTION.entry_points.select(group="console_scripts")
    assert (command.name, command.value) == ("onnxnorm", "onnxnorm.cli:main")


def test_either_distribution_of_onnxruntime_will_do():
    required = [r for r in DISTRIBUTION.requires or () if "extra ==" not in r]
    assert not [r for r in required if r.startswith("onnxruntime")]
