"""The figure of a sweep: a panel for its history and one for each parameter that varies; the same points, the same bytes."""

import re
from pathlib import Path

import pytest

from protoformer.views.sweep import draw_sweep

POINTS = [
    (
        i,
        {"recipe.lr": 10 ** (-1 - i / 2), "model": "bert" if i % 2 else "bert_large", "fixed": "1", "seed": str(i % 3)},
        i / 10,
        i == 4,
    )
    for i in range(6)
]


@pytest.mark.parametrize("maximize", [True, False])
def test_a_panel_for_history_and_for_each_parameter_that_varies(maximize: bool, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.svg", "b.svg")]
    for file in files:
        draw_sweep("val/score", maximize, POINTS, file)
    text = files[0].read_text()
    assert text == files[1].read_text()
    titles = re.findall(r"<!-- ([\w.]+) -->", text)
    assert {"history", "recipe.lr", "model", "seed", "pruned", "trial"} <= set(titles)
    assert "fixed" not in titles


def test_one_point_is_drawn(tmp_path: Path) -> None:
    draw_sweep("val/score", True, POINTS[1:2], tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
