"""A model in a later version of the standard operators means the same."""

from __future__ import annotations

from typing import Any

import onnx
import onnx.parser
import pytest

from onnxnorm import ConversionError
from onnxnorm.graph import versions
from onnxnorm.opset import OPERATORS, function

TF2ONNX_NEWEST = 18
KNOWN = min(onnx.defs.onnx_opset_version(), versions.NEWEST)
# Their inputs got types of their own and more attributes; what was allowed means what it meant.
RENAMED_TYPES = {"DequantizeLinear", "QLinearMatMul", "QuantizeLinear"}


def _interface(schema: Any) -> tuple[list[Any], list[Any]]:
    inputs = [(i.name, i.option) for i in schema.inputs]
    return inputs, [(o.name, o.option) for o in schema.outputs]


def _same_meaning(old: Any, new: Any) -> bool:
    """Whether a node written for the old schema is one of the new, as far as schemas tell."""
    if new.deprecated and not old.deprecated:
        return False
    (old_inputs, old_outputs), (inputs, outputs) = _interface(old), _interface(new)
    optional = onnx.defs.OpSchema.FormalParameterOption.Optional
    if inputs[: len(old_inputs)] != old_inputs or outputs[: len(old_outputs)] != old_outputs:
        return False
    if any(option != optional for _, option in inputs[len(old_inputs) :]):
        return False
    for name, attribute in old.attributes.items():
        same = new.attributes.get(name)
        if same is None or same.default_value != attribute.default_value:
            return False
    if any(a.required for name, a in new.attributes.items() if name not in old.attributes):
        return False
    allowed = {t.type_param_str: set(t.allowed_type_strs) for t in new.type_constraints}
    return old.name in RENAMED_TYPES or all(
        set(t.allowed_type_strs) <= allowed.get(t.type_param_str, set())
        for t in old.type_constraints
    )


def test_no_other_operator_changes_its_meaning() -> None:
    names = {s.name for s in onnx.defs.get_all_schemas() if not s.domain}
    changed = set()
    for name in names:
        if not onnx.defs.has(name, TF2ONNX_NEWEST):
            continue
        before = onnx.defs.get_schema(name, TF2ONNX_NEWEST)
        if not _same_meaning(before, onnx.defs.get_schema(name, KNOWN)):
            changed.add(name)
    # The new stash_type of GroupNormalization is the smaller part of its change.
    assert changed - {"GroupNormalization"} == set(versions.CHANGED) - {"GroupNormalization"}


def _model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18, "onnxnorm" : 1]> graph (float[2, 4] x) => '
        f"(float[2, 4] y) {{{text}}}"
    )


def test_functions_are_raised_with_the_model() -> None:
    model = _model("y = Relu (x)")
    model.functions.append(function(OPERATORS["LayerNormalization"], 18))
    versions.raise_to(model, 24)
    assert versions.opset(model) == 24
    assert [entry.version for entry in model.functions[0].opset_import] == [24]
    assert model.ir_version == min(12, onnx.IR_VERSION)
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("version", [20, 21])
def test_an_operator_with_another_meaning(version: int) -> None:
    model = _model("y = GroupNormalization <num_groups = 2> (x, x, x)")
    if version == 20:
        versions.raise_to(model, version)
        return
    with pytest.raises(ConversionError, match="ask for opset 20 or lower"):
        versions.raise_to(model, version)
