"""``onnxnorm optimize``: activations and residuals go into the normalization nodes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnxnorm.cli import terminal

if TYPE_CHECKING:
    from onnxnorm.graph.fusion import NodeFusion

_COLUMNS = ("node", "operator", "took in", "left, and why")


def optimize(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    this_cpu: Annotated[
        bool,
        typer.Option(
            "--this-cpu",
            help="For this kind of CPU and this onnxruntime alone: no reorders between "
            "convolutions and norms.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the optimized form of an ONNX file.

    With --this-cpu also the layout of this machine's convolutions: faster, and for such machines
    with the onnxnorm library alone.
    """
    from onnxnorm import files, modelfile

    files.check_outputs(modelfile.written(output), [model, *modelfile.data_files(model)])
    with terminal.working(f"optimizing {model}"):
        from onnxnorm.graph import cpu_target
        from onnxnorm.graph.functions import needs_library
        from onnxnorm.graph.fusion import fuse, has_nodes

        proto = modelfile.load(model)
        before = len(proto.graph.node)
        fusions = fuse(proto, str(model))
        in_blocks: tuple[str, ...] = ()
        if this_cpu:
            from onnxnorm.this_cpu import for_this_cpu

            proto, in_blocks = for_this_cpu(proto, str(model))
        target = cpu_target.read(proto, str(model))
        modelfile.save(proto, output)
    after = len(proto.graph.node)
    if as_json:
        terminal.show_json(
            {
                "nodes_before": before,
                "nodes": after,
                "fusions": [asdict(f) for f in fusions],
                "in_blocks": in_blocks,
                "cpu": target and asdict(target),
                "needs_library": needs_library(proto),
            }
        )
        return
    if not fusions:
        where = " outside functions" if has_nodes(proto) else ", written as it is"
        terminal.show(f"{output}: no onnxnorm nodes{where}")
        return
    terminal.show_table(_COLUMNS, [_row(fusion) for fusion in fusions])
    summary = f"{before} nodes, now {after}"
    if this_cpu:
        terminal.show(f"{output}: {summary}")
        summary = (
            f"{len(in_blocks)} of {len(fusions)} norms work in blocks; for {target} only"
            if in_blocks
            else "runs on any CPU: no norm stands behind a convolution that ONNX Runtime keeps in "
            "blocks of channels"
        )
    needed = "needs" if needs_library(proto) else "runs without"
    terminal.show(f"{output}: {summary}; {needed} the native library")


def _row(fusion: NodeFusion) -> tuple[terminal.Cell, ...]:
    return (
        fusion.node,
        fusion.operator,
        fusion.fused,
        fusion.not_fused,
    )
