"""Figures of scaling: a law with its points, band and prediction (GPT-3, figure 3.1), and in-context scores over shots and over
size (GPT-2, figure 1; GPT-3, figure 1.2). The same numbers give the same SVG, byte for byte."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from protoformer.atomic import replace_atomically
from protoformer.scoring.power_law import Fit, Interval
from protoformer.views.curves import DEV, GRID, INK, LOSS, QUIET, RATE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".svg", ".png")
COLOURS = (LOSS, DEV, "#2f8f5b", "#7a4fa3", RATE, "#3aa6b9")
STEP = 0.012  # between curves, of the width of the panel
MOST_TICKS, CLOSEST = 8, 1.3  # numbers of examples that are all named on the axis, and the least ratio of two of them
MARKERS = ("o", "s", "^", "v", "D", "P")


@dataclass(frozen=True)
class LossPanel:
    """A law to draw, the other form (dashed), and a prediction with the runs that check it."""

    title: str
    axis: str
    fit: Fit
    other: Fit | None = None
    predicted: tuple[float, Interval] | None = None
    checked: Sequence[tuple[float, float]] = ()  # sizes and losses


@dataclass(frozen=True)
class ScorePanel:
    """Curves of scores: for each label its x, scores, and half widths of its error bars (0: none)."""

    title: str
    axis: str
    metric: str
    curves: dict[str, list[tuple[float, float, float]]]
    log: bool = False


class MeasuredSize(NamedTuple):
    """Scores of runs that were trained on as many examples; the interval of their mean is None where there is none."""

    examples: int
    mean: float
    scores: Sequence[float]
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class DataSizePanel:
    """For each label a curve of scores over the number of training examples."""

    title: str
    metric: str
    curves: dict[str, list[MeasuredSize]]
    axis: str = "training examples"


def draw(panels: Sequence[LossPanel | ScorePanel | DataSizePanel], path: Path) -> None:
    """Write the panels side by side, as SVG or PNG by the ending of `path`."""
    import matplotlib  # slow: a report without a figure does not need it
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {"svg.hashsalt": "protoformer", "font.size": 9, "text.color": INK, "axes.labelcolor": INK}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.6 * len(panels), 4.0), layout="constrained", dpi=150)
        (FigureCanvasSVG if path.suffix == ".svg" else FigureCanvasAgg)(figure)
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _frame(axes, panel.title, panel.axis)
            if isinstance(panel, LossPanel):
                _draw_losses(axes, panel)
            elif isinstance(panel, DataSizePanel):
                _draw_sizes(axes, panel)
            else:
                _draw_scores(axes, panel)
            axes.legend(frameon=False, fontsize=8, loc="best")
        with replace_atomically(path) as tmp:
            metadata: Any = {"Date": None} if path.suffix == ".svg" else {"Software": None}
            figure.savefig(tmp, format=path.suffix[1:], metadata=metadata)


def _draw_losses(axes: "Axes", panel: LossPanel) -> None:
    fit = panel.fit
    ends = [*fit.sizes, *([panel.predicted[0]] if panel.predicted else []), *(size for size, _ in panel.checked)]
    x = np.geomspace(min(ends) / 1.25, max(ends) * 1.25, 200)
    low, high = fit.band(x)
    exponent = fit.exponent().value
    axes.fill_between(x, low, high, color=LOSS, alpha=0.13, linewidth=0, label=f"{100 * fit.level:g} % band of the law")
    axes.plot(x, fit.predicted(x), color=LOSS, linewidth=1.6, label=f"{_formula(fit)}, alpha = {exponent:.3f}")
    if panel.other is not None:
        label = f"{_formula(panel.other)}, alpha = {panel.other.exponent().value:.3f}"
        axes.plot(x, panel.other.predicted(x), color=QUIET, linewidth=1.1, linestyle=(0, (4, 2)), label=label)
    axes.plot(fit.sizes, fit.losses, color=LOSS, marker="o", markersize=5, linestyle="none", label="runs")
    if panel.predicted is not None:
        size, loss = panel.predicted
        errors = [[loss.value - loss.low], [loss.high - loss.value]]
        axes.errorbar([size], [loss.value], yerr=errors, color=RATE, marker="D", markersize=5, capsize=4, linestyle="none",
                      label=f"predicted, {100 * fit.level:g} % interval of a run")  # fmt: skip
    if panel.checked:
        sizes, losses = zip(*panel.checked, strict=True)
        axes.plot(sizes, losses, color=DEV, marker="X", markersize=7, linestyle="none", label="measured afterwards")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:.2f}")
    axes.yaxis.set_minor_formatter("{x:.2f}")
    axes.set_ylabel("dev loss (nats per token)", color=QUIET)


def _draw_scores(axes: "Axes", panel: ScorePanel) -> None:
    for number, (label, curve) in enumerate(panel.curves.items()):
        x, y, half = zip(*curve, strict=True)
        positions = _beside(x, number - (len(panel.curves) - 1) / 2, panel)
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        errors = half if any(half) else None
        axes.errorbar(
            positions,
            y,
            yerr=errors,
            color=colour,
            marker=marker,
            markersize=4.5,
            linewidth=1.4,
            capsize=3,
            label=label,
        )
    ticks = sorted({x for curve in panel.curves.values() for x, _, _ in curve})
    axes.set_xscale("log") if panel.log else axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylabel(panel.metric, color=QUIET)
    axes.margins(y=0.2)


def _draw_sizes(axes: "Axes", panel: DataSizePanel) -> None:
    """The mean as a line, its interval as a band, and a point for each run."""
    for number, (label, curve) in enumerate(panel.curves.items()):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        sizes = [size.examples for size in curve]
        # no band where there is no interval
        low, high = zip(*(size.interval or (np.nan, np.nan) for size in curve), strict=True)
        axes.fill_between(sizes, low, high, color=colour, alpha=0.13, linewidth=0)
        axes.plot(sizes, [size.mean for size in curve], color=colour, marker=marker, markersize=5, linewidth=1.6,
                  label=label)  # fmt: skip
        runs = [(size.examples, score) for size in curve if len(size.scores) > 1 for score in size.scores]
        if runs:
            axes.plot(*zip(*runs, strict=True), color=colour, marker=".", markersize=5, linestyle="none", alpha=0.6)
    axes.set_xscale("log")
    ticks = sorted({size.examples for curve in panel.curves.values() for size in curve})
    if len(ticks) <= MOST_TICKS and all(right >= CLOSEST * left for left, right in pairwise(ticks)):
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.margins(x=0.08)
    axes.set_ylabel(panel.metric, color=QUIET)


def _beside(x: Sequence[float], steps: float, panel: ScorePanel) -> list[float]:
    """Positions of a curve so many steps beside the true ones, so that error bars at the same position can be told apart."""
    every = [value for curve in panel.curves.values() for value, _, _ in curve]
    if panel.log:
        return [value * (max(every) / min(every)) ** (steps * STEP) for value in x]
    return [value + steps * STEP * (max(every) - min(every)) for value in x]


def _formula(fit: Fit) -> str:
    symbol = "(x_c / x)^alpha" if fit.form == "power" else "E + A / x^alpha"
    return f"L = {symbol}"


def _frame(axes: "Axes", title: str, axis: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK, pad=12)
    axes.set_xlabel(axis, color=QUIET)
    axes.grid(axis="y", which="both", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(QUIET)
    axes.tick_params(colors=QUIET, which="both", length=0)
