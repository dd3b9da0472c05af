"""Wrong arguments of public functions: one line that names the argument and what it may be."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import onnxnorm
from onnxnorm.errors import ArgumentError, OnnxNormError
from onnxnorm.opset import OPERATORS, function

MODEL = onnx.parser.parse_model(
    '<ir_version: 9, opset_import: ["" : 18, "onnxnorm" : 1]> '
    "norms (float[N,4] x) => (float[N,4] y) <float[4] s = {1,2,3,4}, float[4] b = {0,0,0,0}> "
    "{ [n] y = onnxnorm.LayerNormalization <axes = [1], epsilon = 0.001> (x, s, b) }"
)
MODEL.functions.append(function(OPERATORS["LayerNormalization"], 18))
X = np.zeros((2, 4), np.float32)


class Something:
    """A class that is no layer."""


WRONG = {
    "None": None,
    "3": 3,
    "3.5": 3.5,
    "NaN": float("nan"),
    "-1": -1,
    "huge": 10**5000,
    "True": True,
    "text": "x",
    "empty text": "",
    "text with NUL": "a\0b",
    "missing path": Path("no/such/file"),
    "bytes": b"x",
    "object": object(),
    "list": [],
    "list of None": [None],
    "tuple": (1, 2),
    "dictionary": {},
    "dictionary of numbers": {3: 4},
    "array": np.arange(3.0),
    "array of rank 0": np.array(2.5),
    "texts": np.array(["a", "b"]),
    "numpy integer": np.int64(3),
    "numpy truth": np.bool_(True),
    "class": Something,
    "function": lambda: None,
    "module": np,
    "ragged": [[1], [1, 2]],
}


def session_options() -> Any:
    return pytest.importorskip("onnxruntime").SessionOptions()


def session() -> onnxnorm.InferenceSession:
    pytest.importorskip("onnxruntime")
    return onnxnorm.InferenceSession(MODEL, optimize=False)


def keras_model() -> Any:
    layers = pytest.importorskip("tensorflow").keras.layers
    x = layers.Input((4,), name="x")
    return pytest.importorskip("tensorflow").keras.Model(x, layers.LayerNormalization()(x))


def conversion() -> onnxnorm.Conversion:
    pytest.importorskip("tensorflow")
    return onnxnorm.Conversion(MODEL, ())


def opened(model: Any) -> None:
    pytest.importorskip("tensorflow")
    with onnxnorm.hooks(model):
        pass


def criterion(multiple: Any = 4.0, floor_ulp: Any = 16.0) -> Any:
    from onnxnorm.parity import Criterion

    return Criterion(multiple, floor_ulp)


def in_session(path_or_bytes: Any = MODEL, **settings: Any) -> Any:
    pytest.importorskip("onnxruntime")
    return onnxnorm.InferenceSession(path_or_bytes, **settings)


def run(input_feed: Any, output_names: Any = None, run_options: Any = None) -> Any:
    return session().run(output_names, input_feed, run_options)


def registered(session_options: Any, provider: Any = None) -> None:
    pytest.importorskip("onnxruntime")
    onnxnorm.register(session_options, provider)


def library(provider: Any) -> Any:
    pytest.importorskip("onnxruntime")
    return onnxnorm.library_path(provider)


FIELDS = {
    "operator": "GroupNormalization",
    "axes": (1,),
    "epsilon": 1e-3,
    "layer_name": "n",
    "layer_class": "c",
    "groups": 2,
    "subtract_mean": True,
    "has_scale": True,
    "has_bias": True,
    "compute_dtype": "float32",
}
FORMULA = {
    "operator": "RMSNormalization",
    "axes": [1],
    "epsilon": 1e-3,
    "scale": None,
    "bias": None,
}
FORMULA |= {"groups": None, "subtract_mean": True, "parameter_shape": None}

# Of the right type: what is wrong with them is for others to say.
RIGHT = {
    ("path_or_bytes", "bytes"),
    ("onnx_path", "bytes"),
    ("input_signature", "array"),
    ("input_signature", "array of rank 0"),
    ("input_signature", "texts"),
    ("input_signature", "numpy integer"),
    ("input_signature", "numpy truth"),
}
# ONNX Runtime's own errors.
THEIRS = {
    ("output_names", "texts"),
    ("input_feed", "dictionary"),
    ("input_feed", "dictionary of numbers"),
}

# What is called, and good arguments for all that have no default.
WITHOUT_KERAS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "NormSpec": (onnxnorm.NormSpec, FIELDS),
    "NormSpec.from_json": (
        onnxnorm.NormSpec.from_json,
        {"text": onnxnorm.NormSpec(**FIELDS).to_json()},
    ),
    "Formula": (onnxnorm.Formula, FORMULA),
    "adapter": (lambda layer_class: onnxnorm.adapter(layer_class), {"layer_class": Something}),
    "adapter(...)": (lambda function: onnxnorm.adapter(Something)(function), {"function": len}),
    "optimize": (onnxnorm.optimize, {"model": MODEL, "this_cpu": False}),
    "inspect": (onnxnorm.inspect, {"model": MODEL}),
    "LayerRecord.from_dict": (
        onnxnorm.LayerRecord.from_dict,
        {"fields": onnxnorm.LayerRecord("n", "c", None, "unused", ()).to_dict()},
    ),
    "library_path": (library, {"provider": "cpu"}),
    "register": (registered, {"session_options": session_options, "provider": None}),
    "InferenceSession": (
        in_session,
        dict.fromkeys(["sess_options", "providers", "provider_options"])
        | {"path_or_bytes": MODEL, "optimize": False, "strict": False},
    ),
    "run": (run, {"output_names": None, "input_feed": {"x": X}, "run_options": None}),
    "Criterion": (criterion, {"multiple": 4, "floor_ulp": 16}),
}
WITH_KERAS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "Conversion": (
        lambda model, layers: onnxnorm.Conversion(model, layers),
        {"model": MODEL, "layers": ()},
    ),
    "Conversion.save": (lambda path: conversion().save(path), {"path": "no/such/folder/m.onnx"}),
    "hooks": (opened, {"model": keras_model}),
    "convert": (
        lambda **settings: onnxnorm.convert(**settings),
        {
            "model": keras_model,
            "lowering": "custom",
            "opset": 18,
            "input_signature": None,
            "safe_mode": True,
        },
    ),
    "verify": (
        lambda **settings: onnxnorm.verify(**settings),
        {
            "model": keras_model,
            "onnx_path": MODEL,
            "inputs": None,
            "samples": 2,
            "seed": 0,
            "safe_mode": True,
            "providers": None,
            "criterion": None,
            "sizes": None,
        },
    ),
}


def _cases(table: dict[str, Any]) -> Iterator[Any]:
    for name, (_, good) in table.items():
        for argument in good:
            yield pytest.param(name, argument, id=f"{name}-{argument}")


@pytest.mark.parametrize(("name", "argument"), _cases(WITHOUT_KERAS))
def test_without_keras(name: str, argument: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    _check(*WITHOUT_KERAS[name], argument)


@pytest.mark.parametrize(("name", "argument"), _cases(WITH_KERAS))
def test_with_keras(name: str, argument: str, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("tf2onnx")
    monkeypatch.chdir(tmp_path)
    _check(*WITH_KERAS[name], argument)


def _check(called: Callable[..., Any], good: dict[str, Any], argument: str) -> None:
    good = {name: value() if inspect.isfunction(value) else value for name, value in good.items()}
    for told, value in WRONG.items():
        if (argument, told) in THEIRS:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                called(**{**good, argument: value})
        except OnnxNormError as error:
            message = str(error)
            if (argument, told) not in RIGHT:
                assert argument in message or str(value) in message, (told, message)
            assert len(message.splitlines()) == 1, (told, message)
            assert len(message) < 600, (told, message)
        except Exception as error:
            pytest.fail(f"{argument}={told}: {type(error).__name__}: {error}")


def test_every_public_name_is_tried() -> None:
    tried = {name.partition(".")[0].partition("(")[0] for name in (*WITHOUT_KERAS, *WITH_KERAS)}
    errors = {name for name in onnxnorm.__all__ if name.endswith("Error")}
    assert set(onnxnorm.__all__) - errors <= tried


def test_the_error_is_ours_and_pythons() -> None:
    with pytest.raises(ArgumentError) as caught:
        onnxnorm.inspect(3)  # type: ignore[arg-type]
    assert isinstance(caught.value, OnnxNormError)
    assert isinstance(caught.value, TypeError)
    assert str(caught.value) == (
        "inspect: argument 'model' is 3; expected a path (str or os.PathLike) or an onnx.ModelProto"
    )


@pytest.mark.parametrize(
    ("called", "arguments"),
    [
        (onnxnorm.NormSpec, {**FIELDS, "axes": [np.int64(1)], "groups": np.int32(2)}),
        (onnxnorm.NormSpec, {**FIELDS, "epsilon": np.float32(0.5), "has_bias": np.bool_(False)}),
        (onnxnorm.Formula, {**FORMULA, "axes": (np.int64(-1),), "scale": X, "bias": [1.0]}),
        (onnxnorm.optimize, {"model": MODEL, "this_cpu": np.bool_(False)}),
    ],
)
def test_numpys_numbers_are_numbers(called: Callable[..., Any], arguments: dict[str, Any]) -> None:
    called(**arguments)
