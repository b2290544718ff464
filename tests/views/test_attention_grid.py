"""The picture of all heads: each where it belongs, as dark as its weights, masked places in grey."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import to_rgb

from protoformer.views.attention_grid import BACKGROUND, GAP, MASKED, MAX_HEAD_SIZE, draw, head_mosaic
from protoformer.views.panels import Panel, Token


def panel(layers: int = 2, heads: int = 3, tokens: int = 8) -> Panel:
    """Head h of layer l attends to token l + h alone; the last token is padding."""
    weights = torch.zeros(layers, heads, tokens, tokens)
    for layer in range(layers):
        for head in range(heads):
            weights[layer, head, :, layer + head] = 1.0
    words = [*[Token("a")] * (tokens - 1), Token("[PAD]", padding=True)]
    allowed = torch.ones(layers, tokens, tokens, dtype=torch.bool)
    allowed[..., -1] = False
    return Panel("encoder self-attention", words, words, range(1, layers + 1), weights, allowed)


def test_each_head_stands_in_its_place() -> None:
    pixels, side = head_mosaic(panel())
    assert side == 16
    assert pixels.shape == (2 * side + GAP, 3 * side + 2 * GAP, 3)
    for layer in range(2):
        for head in range(3):
            tile = pixels[layer * (side + GAP) :, head * (side + GAP) :][:side, :side]
            dark = np.unique(np.argwhere(tile[: side - 2].sum(-1) < 1.0)[:, 1])
            assert dark.tolist() == [2 * (layer + head), 2 * (layer + head) + 1]
            assert np.allclose(tile[:, -1], to_rgb(MASKED))  # no query sees padding
            assert np.allclose(tile[-1], to_rgb(MASKED))  # and as a query it is of no interest
    assert np.allclose(pixels[side : side + GAP], to_rgb(BACKGROUND))


def test_of_many_tokens_the_strongest_is_seen() -> None:
    weights = torch.full((1, 1, 300, 300), 0.001)
    weights[0, 0, 150, 10] = 1.0
    many = panel(1, 1, 300)
    pixels, side = head_mosaic(Panel(many.name, many.queries, many.keys, [1], weights, many.allowed))
    assert side == MAX_HEAD_SIZE
    assert (pixels.sum(-1) < 1.0).sum() == 1


def test_the_file_is_a_picture(tmp_path: Path) -> None:
    path = draw(panel(12, 12, 24), "a model", tmp_path / "heads.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert path.stat().st_size < 200_000
