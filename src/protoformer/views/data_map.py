"""Data map as a figure: confidence over variability of training examples, coloured by correctness, and their distributions
(Swayamdipta et al. 2020, arXiv 2009.10795, figure 1). An SVG that is the same, byte for byte, for the same numbers.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from protoformer.atomic import replace_atomically
from protoformer.views.curves import GRID, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS = 5000  # beyond that every n-th example is drawn, so that a browser can show the picture
BAR = "#1f5fa8"


def draw(
    path: Path,
    confidence: Float[ndarray, "examples"],
    variability: Float[ndarray, "examples"],
    correctness: Float[ndarray, "examples"],
) -> Path:
    """Write the figure and return its path."""
    import matplotlib  # slow: `report` and a finished run import this file without drawing
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {"svg.hashsalt": "protoformer", "font.size": 9, "text.color": INK, "axes.labelcolor": INK}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(8.6, 5.0), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplot_mosaic("MC;MV;MR", width_ratios=[2.4, 1])
        _draw_points(axes["M"], confidence, variability, correctness)
        for name, label, values, limit in (
            ("C", "confidence", confidence, 1.0),
            ("V", "variability", variability, 0.5),
            ("R", "correctness", correctness, 1.0),
        ):
            axes[name].hist(values, bins=20, range=(0, limit), color=BAR)
            axes[name].set(xlabel=label, ylabel="examples", xlim=(0, limit))
        for each in axes.values():
            each.grid(color=GRID, linewidth=0.8)
            each.set_axisbelow(True)
            each.spines[["top", "right"]].set_visible(False)
        with replace_atomically(path) as tmp:
            figure.savefig(tmp, format="svg", metadata={"Date": None})
    return path


def _draw_points(axes: "Axes", confidence: ndarray, variability: ndarray, correctness: ndarray) -> None:
    step = -(-len(confidence) // MOST_POINTS)
    drawn = np.arange(0, len(confidence), step)
    points = axes.scatter(
        variability[drawn],
        confidence[drawn],
        c=correctness[drawn],
        cmap="viridis",
        vmin=0,
        vmax=1,
        s=9,
        alpha=0.75,
        linewidths=0,
    )
    axes.figure.colorbar(points, ax=axes, label="correctness", location="left")
    shown = f"{len(confidence):,} training examples" + (f", {len(drawn):,} of them drawn" if step > 1 else "")
    axes.set(xlim=(-0.01, 0.51), ylim=(-0.02, 1.02), xlabel="variability", ylabel="confidence", title=shown)
    for x, y, name in ((0.02, 0.93, "easy"), (0.02, 0.05, "hard"), (0.5, 0.5, "ambiguous")):
        axes.text(x, y, name, fontstyle="italic", fontsize=11, ha="right" if x == 0.5 else "left")
