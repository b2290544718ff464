"""The figure: time over n and over d, memory over n, each with its fitted exponent, and the crossovers over d."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from protoformer.atomic import replace_atomically
from protoformer.complexity.layer_types import LAYER_TYPES
from protoformer.complexity.results import Results

INK, QUIET, GRID = "#1f2933", "#6b7785", "#e4e8ec"
COLOURS = ("#1f5fa8", "#c2452d", "#2f8f5b", "#7a4fa3", "#d98c1f", "#3aa6b9")
MARKERS = ("o", "s", "^", "v", "D", "P")
COSTS = (
    ("formula", "paper's formula: n = d", QUIET, "--"),
    ("flops", "counted FLOPs", COLOURS[0], "-"),
    ("flops_without_projections", "counted, no projections", COLOURS[4], ":"),
    ("seconds", "measured time", COLOURS[1], "-"),
)


def draw(results: Results, path: Path) -> None:
    """Write the figure as SVG; the same results give the same file."""
    style: Any = {"svg.hashsalt": "protoformer", "font.size": 9, "text.color": INK, "axes.labelcolor": INK}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(11, 8.4), layout="constrained")
        FigureCanvasSVG(figure)
        (time_n, time_d), (memory, crossovers) = figure.subplots(2, 2)
        n, d = results.grid.n, results.grid.d
        _draw_costs(time_n, results, "seconds", over_n=True, unit=1e3)
        _frame(time_n, f"Time of a sequence, forward and backward (d = {d[-1]})", "n", "ms", n)
        _draw_costs(time_d, results, "seconds", over_n=False, unit=1e3)
        _frame(time_d, f"The same over d (n = {n[-1]})", "d", "ms", d)
        _draw_costs(memory, results, "saved_bytes", over_n=True, unit=2**-20)
        _frame(memory, f"Saved for backward (d = {d[-1]})", "n", "MiB", n)
        _draw_crossovers(crossovers, results)
        _frame(crossovers, "From which n on self-attention costs more than an LSTM", "d", "n", d)
        with replace_atomically(path) as tmp:
            figure.savefig(tmp, format="svg", metadata={"Date": None})


def _draw_costs(axes: Axes, results: Results, cost: str, *, over_n: bool, unit: float) -> None:
    n, d = results.grid.n, results.grid.d
    for layer_type, colour, marker in zip(LAYER_TYPES, COLOURS, MARKERS, strict=True):
        sizes = n if over_n else d
        costs = results.over_n(layer_type, d[-1], cost) if over_n else results.over_d(layer_type, n[-1], cost)
        exponent = results.exponents(layer_type, cost)[0 if over_n else 1]
        label = f"{layer_type.name}: {'n' if over_n else 'd'}$^{{{exponent:.2f}}}$"
        axes.plot(
            sizes,
            [value * unit for value in costs],
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.4,
            label=label,
        )


def _draw_crossovers(axes: Axes, results: Results) -> None:
    crossovers = results.crossovers()
    for name, label, colour, line in COSTS:
        points = [(crossover.d, value) for crossover in crossovers if (value := getattr(crossover, name)) is not None]
        if points:
            x, y = zip(*points, strict=True)
            linewidth = 4.0 if name == "flops" else 1.6
            axes.plot(
                x, y, color=colour, linestyle=line, marker="o", markersize=4, linewidth=linewidth, label=label,
                alpha=0.45 if name == "flops" else 1.0,
            )  # fmt: skip


def _frame(axes: Axes, title: str, x: str, y: str, ticks: Any) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2 if y == "n" else 10)
    axes.set_xticks(list(ticks), [str(tick) for tick in ticks])
    if y == "n":
        axes.yaxis.set_major_formatter("{x:.0f}")
    if y != "n":  # room for the legend
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom, top * 8)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(QUIET)
    axes.tick_params(colors=QUIET, which="both")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
