"""An operator as a model-local function, which a runtime without the native library runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import onnx
import onnx.parser

from onnxnorm.opset import recipes
from onnxnorm.opset.activations import ACTIVATIONS
from onnxnorm.opset.operator import DOMAIN, RESIDUAL, Operator

_INPUTS = ("X", "scale", "bias")
_TYPES = {int: "int", float: "float", str: "string"}


def function(operator: Operator, opset: int) -> onnx.FunctionProto:
    """The operator as a model-local function in standard operators of ``opset`` (15 or later).

    One function serves every node of the operator: attributes reach the body by reference.
    """
    body = f"{operator.body}{_result('Y_stash')}"
    return _parsed(operator.name, operator.attributes, _INPUTS, body, opset, operator.doc)


def optimized_function(operator: Operator, opset: int, has_residual: bool) -> onnx.FunctionProto:
    """The same with an activation, which a node gives or not, and with a residual or without.

    Its name is that of the operator, or ``Residual`` and that name.
    """
    attributes = {**operator.attributes, "activation": "", "activation_params": ()}
    if not has_residual:
        body = f"{operator.body}{_activated('Y_stash')}"
        doc = f"{operator.doc}\nY = activation(Y) where the attribute is given."
        return _parsed(operator.name, attributes, _INPUTS, body, opset, doc)
    return _parsed(
        f"{RESIDUAL}{operator.name}",
        {**attributes, "residual_stage": "output"},
        (*_INPUTS, "residual"),
        f"{_with_residual(operator.body)}{_activated('Y_added')}",
        opset,
        f"{operator.doc}\nThe residual is added to X (residual_stage = input) or to Y (output), "
        "then Y = activation(Y) where the attribute is given.",
    )


def _parsed(
    name: str, attributes: Mapping[str, Any], inputs: Iterable[str], body: str, opset: int, doc: str
) -> onnx.FunctionProto:
    declared = ", ".join(_declared(*attribute) for attribute in attributes.items())
    function = onnx.parser.parse_function(
        f'<domain: "{DOMAIN}", opset_import: ["" : {opset}]>\n'
        f"{name} <{declared}> ({', '.join(inputs)}) => (Y)\n{{{body}}}"
    )
    function.doc_string = doc
    return function


def _declared(name: str, default: Any) -> str:
    if default is None:
        return name
    if isinstance(default, (str, int, float)):
        text = f'"{default}"' if isinstance(default, str) else repr(default)
        return f"{name}: {_TYPES[type(default)]} = {text}"
    return f"{name}: {'ints' if default else 'floats'} = [{', '.join(map(repr, default))}]"


def _result(value: str) -> str:
    return f"    Y = CastLike ({value}, X)\n"


def _with_residual(body: str) -> str:
    """The residual is added to X, and the sum rounded to the element type, or to the result."""
    return f"""
{_counts("residual_stage", ["input"])}
    is_before = Cast <to = {onnx.TensorProto.BOOL}> (residual_stage_counts)
    added = Cast <to: int = @stash_type> (residual)
    X_wide = Cast <to: int = @stash_type> (X)
    X_in = If (is_before) <
        then_branch = before () => (X_sum) {{
            sum_wide = Add (X_wide, added)
            X_sum = CastLike (sum_wide, X)
        }},
        else_branch = not_before () => (X_alone) {{ X_alone = Identity (X) }}
    >
{recipes.rename(body, {"X": "X_in"})}
    Y_added = If (is_before) <
        then_branch = not_behind () => (Y_alone) {{ Y_alone = Identity (Y_stash) }},
        else_branch = behind () => (Y_sum) {{ Y_sum = Add (Y_stash, added) }}
    >
"""


def _activated(value: str) -> str:
    """One branch for each activation: runtimes resolve them when they load the node."""
    statements = f"""
{_counts("activation", list(ACTIVATIONS))}
    parameters_given = Constant <value_floats: floats = @activation_params> ()
    parameters_none = Constant <value_floats = [0.0, 0.0]> ()
    parameters = Concat <axis = 0> (parameters_given, parameters_none)
    double = Constant <value_int = {onnx.TensorProto.DOUBLE}> ()
    stash = Constant <value_int: int = @stash_type> ()
    is_double = Equal (stash, double)
    is_single = Not (is_double)
"""
    for place, name in enumerate(("first", "second")):
        statements += f"""
    {name}_place = Constant <value_int = {place}> ()
    {name}_float = Gather (parameters, {name}_place)
    {name} = Cast <to: int = @stash_type> ({name}_float)
"""
    for place, (name, activation) in enumerate(ACTIVATIONS.items()):
        statements += f"""
    {name}_place = Constant <value_int = {place}> ()
    {name}_count = Gather (activation_counts, {name}_place)
    {name}_is_given = Cast <to = {onnx.TensorProto.BOOL}> ({name}_count)
"""
        branches = {name: activation.body}
        if activation.float64_body:
            branches = {
                f"{name}_single": activation.body,
                f"{name}_double": activation.float64_body,
            }
            for branch in branches:
                kind = branch.removeprefix(f"{name}_")
                statements += f"    {branch}_is_given = And ({name}_is_given, is_{kind})\n"
        for branch, body in branches.items():
            statements += _branch(branch, body, value)
            value = branch
    return f"{statements}{_result(value)}"


def _branch(name: str, body: str, x: str) -> str:
    """{name} = the activation of x where {name}_is_given, else x."""
    body = _with_constants(body)
    made = re.findall(r"(\w+) = [A-Z]", body)
    return f"""
    {name} = If ({name}_is_given) <
        then_branch = with_{name} () => ({name}_y) {{
            {recipes.rename(body, {local: f"{name}_{local}" for local in made} | {"x": x})}
        }},
        else_branch = without_{name} () => ({name}_x) {{ {name}_x = Identity ({x}) }}
    >
"""


def _counts(attribute: str, texts: list[str]) -> str:
    """{attribute}_counts: how often a text attribute is each of the texts, 0 or 1.

    ONNX compares texts by Equal from opset 19 on only.
    """
    pool = ", ".join(f'"{text}"' for text in texts)
    places = ", ".join(map(str, range(len(texts))))
    return f"""
    {attribute} = Constant <value_string: string = @{attribute}> ()
    {attribute}_shape = Constant <value_ints = [1]> ()
    {attribute}_list = Reshape ({attribute}, {attribute}_shape)
    {attribute}_counts = TfIdfVectorizer <mode = "TF", min_gram_length = 1, max_gram_length = 1,
        max_skip_count = 0, ngram_counts = [0], ngram_indexes = [{places}],
        pool_strings = [{pool}]> ({attribute}_list)
"""


def _with_constants(statements: str) -> str:
    """The statements with each number in braces, or list of them, as a constant of x's type."""
    lines: list[str] = []
    for line in statements.splitlines():
        for numbers in re.findall(r"\{(-?\d[^}]*)\}", line):
            name = f"number_{len(lines)}"
            several = f"[{numbers.count(',') + 1}]" if "," in numbers else ""
            lines += [
                f"{name}_double = Constant <value = double{several} {{{numbers}}}> ()",
                f"{name} = CastLike ({name}_double, x)",
            ]
            line = line.replace(f"{{{numbers}}}", name)
        lines.append(line)
    return "\n".join(lines)
