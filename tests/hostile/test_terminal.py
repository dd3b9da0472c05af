"""What a terminal would obey in the names of a file is shown and not obeyed."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from onnxnorm import LayerRecord, NormSpec, cli
from onnxnorm.cli import terminal
from onnxnorm.graph import records
from tests.graph.fusion.graphs import parsed

ATTACKS = {
    "colour": "\x1b[31mred",
    "title": "\x1b]0;title\x07",
    "clear": "\x1bc",
    "one byte": "\x9b2J",
    "back": "ok\b\bno",
    "return": "shown\roverwritten",
    "line": "name\nonnxnorm: error: spoofed",
    "line of Unicode": "name\u2028next\u2029next\x85next",
    "tab": "a\tb",
    "bidi": "a\u202egnp.exe",
    "isolate": "a\u2066b\u2069",
    "no room": "a\u200bb\ufeff",
    "tag": "a\U000e0041",
    "delete": "a\x7f",
    "markup": "[bold red]a[/] [link=http://x]b[/link]",
}


def model_of(name: str) -> onnx.ModelProto:
    """With the name wherever a file can have one."""
    model = parsed("[norm] v = NORM (x, s, b)\n [relu] u = Relu (v)\n [last] y = NORM (u, s, b)")
    for node in model.graph.node:
        node.name = f"{node.name} {name}"
    spec = NormSpec("LayerNormalization", (2,), 1e-3, name, f"keras.{name}")
    record = LayerRecord(
        name,
        name,
        spec,
        "custom",
        (model.graph.node[0].name, name),
        name,
        ((None, name, 3),),
        (name,),
    )
    records.write(model, [record])
    other = model.graph.node.add(
        op_type="LayerNormalization", name=name, input=["u", "s", "b"], output=[name]
    )
    other.attribute.add(name=name, s=name.encode(), type=onnx.AttributeProto.STRING)
    return model


def plain(text: str) -> bool:
    return all(terminal.visible(line) == line for line in text.split("\n"))


@pytest.fixture(params=ATTACKS.values(), ids=ATTACKS)
def attack(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("width", ["40", "80", "200"])
def test_tables_and_lines(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    attack: str,
    width: str,
) -> None:
    monkeypatch.setattr(terminal, "_WIDTH_OF_A_PIPE", int(width))
    path = tmp_path / f"m{attack}.onnx".replace("/", "")
    path.write_bytes(model_of(attack).SerializeToString())
    outputs = []
    for arguments in (["inspect"], ["optimize", "-o", str(tmp_path / f"{path.name}.fast")]):
        cli.main([*arguments, str(path)])
        outputs.append(capfd.readouterr())
    for out, err in outputs:
        assert plain(out)
        assert plain(err)
        assert not out.startswith("onnxnorm: error")
    shown = terminal.visible(attack).split()[0][:6]
    assert shown in outputs[0].out


def test_json_is_json(tmp_path: Path, capfd: pytest.CaptureFixture[str], attack: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model_of(attack).SerializeToString())
    assert cli.main(["inspect", str(path), "--json"]) == 0
    out = capfd.readouterr().out
    assert plain(out)
    assert json.loads(out)["layers"][0]["name"] == attack


@pytest.mark.parametrize(
    "arguments",
    [["inspect", "{}"], ["{}"], ["optimize", "x", "--{}"], ["bench", "x", "--shape", "{}"]],
)
def test_error_lines(capfd: pytest.CaptureFixture[str], attack: str, arguments: list[str]) -> None:
    assert cli.main([argument.format(attack) for argument in arguments]) == 2
    (line,) = capfd.readouterr().err.removesuffix("\n").split("\n")
    assert plain(line)
    assert line.startswith("onnxnorm: error: ")


def test_errors_of_others(tmp_path: Path, capfd: pytest.CaptureFixture[str], attack: str) -> None:
    """onnx' checker and ONNX Runtime repeat the names."""
    pytest.importorskip("onnxruntime")
    model = parsed("[norm] y = NORM (x, s, b)")
    model.graph.node.add(op_type=attack, name=attack, output=[attack], input=[attack])
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    for arguments in (["optimize", str(path), "-o", str(tmp_path / "o")], ["bench", str(path)]):
        assert cli.main(arguments) == 2
        (line,) = capfd.readouterr().err.removesuffix("\n").split("\n")
        assert plain(line)


def test_long_lines_are_cut(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", "a/" * 100_000]) == 2
    assert len(capfd.readouterr().err) < 5000


def test_letters_of_all_kinds_are_letters() -> None:
    text = "Größe × 2, 名前 имя اسم 🙂 — “a”…"
    assert terminal.visible(text) == text
