"""Figure: the score of each layer's probe, with baseline, random models and scalar mix as lines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protoformer.atomic import replace_atomically
from protoformer.inference.layers.results import MetricResult
from protoformer.views.curves import INK, QUIET

MODEL, RANDOM = "#2f6fad", "#c2783a"


def draw_layers(title: str, results: Sequence[MetricResult], baseline: str, path: Path) -> Path:
    """Write the figure as SVG, one panel for each metric and split, and return its path: the same, byte for byte, for the same
    results. The band is the 95 % interval."""
    import matplotlib  # slow: results without a figure do not need it
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {"svg.hashsalt": "protoformer", "font.size": 8, "text.color": INK}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(3.4 * len(results) + 1.6, 3.0), layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(1, len(results), squeeze=False)[0]
        for axes, each in zip(panels, results, strict=True):
            _draw(axes, each, baseline)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
        figure.suptitle(title, x=0.01, ha="left", fontsize=9, color=INK)
        with replace_atomically(path) as tmp:
            figure.savefig(tmp, format="svg", metadata={"Date": None})
    return path


def _draw(axes: Any, result: MetricResult, baseline: str) -> None:
    *layers, mix = result.probes
    numbers = range(len(layers))
    if all(each.low is not None for each in layers):
        bounds = [[100 * (bound or 0.0) for bound in column] for column in
                  ([each.low for each in layers], [each.high for each in layers])]  # fmt: skip
        axes.fill_between(numbers, *bounds, color=MODEL, alpha=0.15, linewidth=0)
    axes.plot(numbers, [100 * each.score for each in layers], color=MODEL, marker="o", markersize=4, label="layer")
    axes.axhline(100 * mix.score, color=MODEL, linestyle=":", label="scalar mix")
    if mix.random:
        means = [100 * sum(each.random) / len(each.random) for each in layers]
        axes.plot(numbers, means, color=RANDOM, marker="o", markersize=3, label="random model")
    axes.axhline(100 * result.baseline, color=QUIET, linestyle="--", label=baseline)
    axes.set_xticks(list(numbers))
    axes.set_xlabel("layer (0: embeddings)", color=QUIET)
    axes.set_title(f"{result.split} {result.metric}".strip(), loc="left", fontsize=8, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0, colors=QUIET)
