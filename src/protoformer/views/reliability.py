"""Reliability diagram of a split: accuracy over confidence, as it is and at a temperature (arXiv 1706.04599, figure 1).

Drawn from the entry `calibration` of result.json, as an SVG that is the same, byte for byte, for the same numbers.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protoformer.atomic import replace_atomically
from protoformer.views.curves import GRID, INK, QUIET

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AS_IS, SCALED = "#1f5fa8", "#c2452d"


def draw(path: Path, splits: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write a panel a split; of each bin the accuracy with its 95 % interval, and the number of predictions below."""
    import matplotlib  # slow: `report` and a finished run import this file without drawing
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {"svg.hashsalt": "protoformer", "font.size": 9, "text.color": INK, "axes.labelcolor": INK}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(3.9 * len(splits), 4.4), layout="constrained")
        FigureCanvasSVG(figure)
        grid = figure.subplots(2, len(splits), sharex=True, squeeze=False, height_ratios=[4, 1])
        for column, (name, entry) in enumerate(splits.items()):
            _draw_split(grid[0, column], grid[1, column], name, entry)
        with replace_atomically(path) as tmp:
            figure.savefig(tmp, format="svg", metadata={"Date": None})
    return path


def _draw_split(axes: "Axes", counts: "Axes", name: str, entry: Mapping[str, Any]) -> None:
    as_is, scaled = entry["as_is"], entry.get("scaled")
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
    if scaled is not None:
        _draw_bins(axes, scaled["bins"], SCALED, f"temperature {entry['temperature']['value']:.2f}", hollow=True)
    _draw_bins(axes, as_is["bins"], AS_IS, "as it is")
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=f"{name}: {as_is['examples']:,} examples")
    axes.legend(loc="upper left", frameon=False)
    bins = as_is["bins"]
    counts.bar(
        [(each["low"] + each["high"]) / 2 for each in bins],
        [each["examples"] for each in bins],
        width=[0.9 * (each["high"] - each["low"]) for each in bins],
        color=AS_IS,
    )
    counts.set(xlabel="confidence", ylabel="examples")
    for each in (axes, counts):
        each.grid(color=GRID, linewidth=0.8)
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)


def _draw_bins(axes: "Axes", bins: Sequence[Mapping[str, Any]], color: str, label: str, hollow: bool = False) -> None:
    accuracies = [each["accuracy"] for each in bins]
    below = [max(0.0, each["accuracy"] - each["accuracy_low"]) for each in bins]  # 1e-17 below, where all are right
    above = [max(0.0, each["accuracy_high"] - each["accuracy"]) for each in bins]
    axes.errorbar(
        [each["confidence"] for each in bins],
        accuracies,
        yerr=[below, above],
        fmt="o",
        markersize=4.5,
        color=color,
        markerfacecolor="white" if hollow else color,
        elinewidth=0.9,
        capsize=2,
        label=label,
    )
