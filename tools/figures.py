"""The pictures of the report page, each one inline SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onnxnorm.latency import Timing
from tools.steps import verify
from tools.steps.export import CUSTOM, FORMS, NATIVE, PLAIN
from tools.steps.verify import ERROR_BINS, Race
from tools.summary import ModelSummary

INK = "#1d2733"
FAINT = "#8b95a1"
GRID = "#e3e7ec"
COLORS = {
    verify.TENSORFLOW: "#d98324",
    PLAIN.name: "#8b95a1",
    NATIVE.name: "#3d78b8",
    CUSTOM.name: "#12805c",
}
LABELS = {
    verify.TENSORFLOW: "TensorFlow",
    PLAIN.name: "ONNX Runtime, plain tf2onnx graph",
    NATIVE.name: "ONNX Runtime, native form",
    CUSTOM.name: "ONNX Runtime, custom form",
}
_MODEL_COLORS = ("#12805c", "#3d78b8", "#8a5fb0", "#d98324", "#b8433d")

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "onnxnorm",
    "font.family": "sans-serif",
    "font.sans-serif": ["system-ui", "Segoe UI", "Helvetica Neue", "Arial", "DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": GRID,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
}


def errors(summaries: Sequence[ModelSummary]) -> str:
    """How far ONNX Runtime's probabilities are from TensorFlow's: one panel for each model."""
    with mpl.rc_context(STYLE):
        columns = min(3, len(summaries))
        lines = -(-len(summaries) // columns)
        figure = Figure(figsize=(11, 0.6 + 2.4 * lines))
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for unused in grid.flat[len(summaries) :]:
            unused.set_visible(False)
        for panel, summary in zip(grid.flat, summaries, strict=False):
            for form in FORMS:
                counts = summary.verification.agreements[form.name].histogram
                panel.stairs(
                    np.maximum(counts, 0.5),
                    ERROR_BINS,
                    color=COLORS[form.name],
                    linewidth=1.8,
                    label=LABELS[form.name],
                    baseline=None,
                )
            panel.set(xscale="log", yscale="log", xlim=(1e-14, 1e-2), ylim=(0.5, None))
            panel.set_xticks([10.0**exponent for exponent in (-13, -10, -7, -4)])
            panel.set_title(summary.card.name)
            panel.set_xlabel("|ONNX Runtime − TensorFlow|")
            panel.tick_params(labelbottom=True)
        for panel in grid[:, 0]:
            panel.set_ylabel("probabilities")
        _legend(figure, grid[0, 0])
        return svg(figure)


def curves(summaries: Sequence[ModelSummary]) -> str:
    """Loss and accuracy after each epoch, on the training set and on the test set."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 3.9))
        loss, accuracy = figure.subplots(1, 2)
        for summary, color in zip(summaries, _MODEL_COLORS, strict=False):
            epochs = range(1, len(summary.history["loss"]) + 1)
            for panel, name in ((loss, "loss"), (accuracy, "accuracy")):
                panel.plot(epochs, summary.history[name], color=color, linestyle=":", marker=".")
                panel.plot(
                    epochs,
                    summary.history[f"test_{name}"],
                    color=color,
                    marker="o",
                    markersize=4,
                    label=summary.card.name,
                )
        for panel, title in ((loss, "loss"), (accuracy, "accuracy")):
            panel.set_title(f"{title}: test set solid, training set dotted")
            panel.set_xlabel("epoch")
            panel.set_xticks(range(1, 1 + max(len(s.history["loss"]) for s in summaries)))
        accuracy.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1.0, decimals=None))
        _legend(figure, accuracy)
        return svg(figure)


def latencies(summaries: Sequence[ModelSummary]) -> str:
    """Median and quartiles of every competitor: the network and its normalization layer alone."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 1.2 + 0.75 * len(summaries)))
        network, layer = figure.subplots(1, 2, sharey=True)
        _dots(network, [summary.verification.network for summary in summaries])
        _dots(layer, [summary.verification.layer for summary in summaries])
        network.set_title(f"whole network, batch of {verify.LATENCY_BATCH}")
        shape = "×".join(map(str, summaries[0].verification.layer_shape))
        layer.set_title(f"normalization layer alone, {shape}")
        network.set_yticks(range(len(summaries)), [s.card.name for s in summaries])
        network.invert_yaxis()
        _legend(figure, network)
        return svg(figure)


def _dots(panel: Axes, races: Sequence[Race]) -> None:
    parties = list(COLORS)
    for line, race in enumerate(races):
        for index, party in enumerate(parties):
            timing: Timing | None = race.timings.get(party)
            if timing is None:
                continue
            height = line + (index - (len(parties) - 1) / 2) * 0.17
            panel.plot(
                (timing.first_quartile, timing.third_quartile),
                (height, height),
                color=COLORS[party],
                linewidth=3,
                alpha=0.35,
                solid_capstyle="round",
            )
            panel.plot(
                timing.median,
                height,
                "o",
                color=COLORS[party],
                markersize=6,
                label=LABELS[party] if line == 0 else None,
            )
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    panel.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    panel.set_xlabel("milliseconds: median, and quartiles as the band")
    panel.grid(axis="y", visible=False)


def _legend(figure: Figure, panel: Axes) -> None:
    handles, labels = panel.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="lower center", ncols=5, bbox_to_anchor=(0.5, -0.01))
    figure.tight_layout(rect=(0, 0.07 if figure.get_figheight() > 5 else 0.1, 1, 1))


def svg(figure: Figure) -> str:
    """A figure as inline SVG."""
    text = io.StringIO()
    # Without the fields the file says nothing of when and with what it was made.
    metadata: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(text, format="svg", transparent=True, metadata=metadata)
    content = text.getvalue()
    return content[content.index("<svg") :]
