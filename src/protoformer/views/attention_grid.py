"""A picture of all heads of a panel, layers by heads, for experiment trackers."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy import ndarray
from torch.nn import functional

from protoformer.atomic import replace_atomically
from protoformer.views.curves import INK, QUIET
from protoformer.views.panels import Panel

MAX_HEAD_SIZE, GAP = 48, 3  # pixels of a head's side, and between two heads
MASKED, BACKGROUND = "#e4e8ec", "#ffffff"


def draw(panel: Panel, title: str, path: Path) -> Path:
    """Write a PNG of the square roots of the weights, masked cells in grey, and return its path."""
    pixels, side = head_mosaic(panel)
    rows, columns = pixels.shape[:2]
    figure = Figure(figsize=(columns / 72 + 0.8, rows / 72 + 0.9), dpi=144, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(pixels, interpolation="nearest")
    axes.set_title(title, loc="left", fontsize=9, color=INK)
    heads = panel.weights.shape[1]
    middle = (side - 1) / 2
    axes.set_xticks([middle + n * (side + GAP) for n in range(heads)], [str(n + 1) for n in range(heads)])
    axes.set_yticks([middle + n * (side + GAP) for n in range(len(panel.layers))], [str(n) for n in panel.layers])
    axes.set_xlabel("head", color=QUIET, fontsize=8)
    axes.set_ylabel("layer", color=QUIET, fontsize=8)
    axes.tick_params(length=0, labelsize=7, colors=QUIET)
    axes.spines[:].set_visible(False)
    with replace_atomically(path) as tmp:
        figure.savefig(tmp, format="png", facecolor=BACKGROUND)
    return path


def head_mosaic(panel: Panel) -> tuple[Float[ndarray, "rows columns 3"], int]:
    """All heads as colours, and the side of a head in pixels.

    A head with more tokens than pixels shows the maximum of the weights that share a pixel.
    """
    layers, heads, queries, keys = panel.weights.shape
    side = min(MAX_HEAD_SIZE, max(16, queries, keys))
    weights = panel.weights.sqrt().masked_fill(~panel.visible[:, None], -1.0)
    tiles = functional.adaptive_max_pool2d(weights, side).numpy()
    step = side + GAP
    canvas = np.full((layers * step - GAP, heads * step - GAP, 3), to_rgb(BACKGROUND))
    for layer in range(layers):
        for head in range(heads):
            tile = tiles[layer, head]
            colours = colormaps["Blues"](np.clip(tile, 0, 1))[..., :3]
            colours[tile < 0] = to_rgb(MASKED)
            canvas[layer * step : layer * step + side, head * step : head * step + side] = colours
    return canvas, side
