"""Where a model file comes from: the programs that made it, and the model that it was made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import onnx

import onnxnorm
from onnxnorm.graph.nodes import keep_only

PRODUCER = "onnxnorm"
_KEY = "onnxnorm.source."
"""Begins the key, which ends with a hash of the value: so files with other sources can be merged,
which tools refuse where one key has two values."""

Source = Mapping[str, str]
"""The model's name as ``model``, and versions by the names of programs."""


def write(model: onnx.ModelProto, name: str, versions: Mapping[str, str]) -> None:
    """Notes in the model what it was made of, in place of what it says.

    Args:
        model: changed in place.
        name: the name of the Keras model.
        versions: versions of the programs that took part, but not of onnxnorm.
    """
    model.producer_name, model.producer_version = PRODUCER, onnxnorm.__version__
    fields = {**versions, "model": name, "onnxnorm": onnxnorm.__version__}
    value = json.dumps(fields, sort_keys=True)
    digest = hashlib.sha256(value.encode()).hexdigest()[:16]
    keep_only(model.metadata_props, lambda entry: not entry.key.startswith(_KEY))
    model.metadata_props.add(key=f"{_KEY}{digest}", value=value)


def read(model: onnx.ModelProto) -> tuple[Source, ...]:
    """The sources of a model: none of one from elsewhere, several of merged ones.

    What is not as `write` writes it is left out.
    """
    found = []
    for entry in model.metadata_props:
        if not entry.key.startswith(_KEY):
            continue
        try:
            fields = json.loads(entry.value)
        except (ValueError, RecursionError):
            continue
        if isinstance(fields, dict) and all(isinstance(value, str) for value in fields.values()):
            found.append(fields)
    return tuple(found)
