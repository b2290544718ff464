"""What stands in the page's file: the statistics, and text that is nothing but text."""

import base64
import json
import re
import zlib
from typing import Any

import numpy as np
import pytest
import torch

from protoformer.models.gpt import gpt
from protoformer.views.attention import PAGE_MARKER, page, quantize
from protoformer.views.panels import Panel, Token, TokenizedText, panels_of_backbone

HOSTILE = "</script><img src=x onerror=\"document.title='had'\"><!-- {{data}} &amp; ' "


def panel_of(tokens: list[Token], **more: Any) -> Panel:
    model = gpt(vocab_size=50, d_model=32, n_layers=2, n_heads=4, d_ff=48, **more).eval()
    (panel,) = panels_of_backbone(model, TokenizedText(torch.arange(len(tokens)), tokens), [1, 2])
    return panel


def data_in(html: str) -> dict[str, Any]:
    """As the browser reads it: up to the first end of a script element."""
    actual = re.search(r'<script type="application/json" id="data">(.*?)</script', html, re.S)
    assert actual
    return json.loads(actual[1])


def unpacked(text: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)


def test_weights_masks_and_numbers_come_back() -> None:
    tokens = [*[Token(f"w{n}", segment=n // 3) for n in range(5)], Token("[PAD]", special=True, padding=True)]
    panel = panel_of(tokens, attention=["dense", "banded"], band=2)
    (held,) = data_in(page([panel], "m", ["a b"]))["panels"]
    back = (unpacked(held["weights"]).reshape(2, 4, 6, 6) / 255.0) ** 2
    assert np.abs(back - panel.weights.numpy()).max() < 0.004
    masks = [np.unpackbits(unpacked(mask))[:36].reshape(6, 6).astype(bool) for mask in held["masks"]]
    for layer, number in enumerate(held["mask_index"]):
        assert np.array_equal(masks[number], panel.visible[layer].numpy())
    assert (held["layers"], held["heads"], held["cross_attention"]) == ([1, 2], 4, False)
    assert held["queries"] == held["keys"] == [["w0", 0, 0], ["w1", 0, 0], ["w2", 0, 0], ["w3", 1, 0], ["w4", 1, 0],
                                               ["[PAD]", 0, 2]]  # fmt: skip
    for name, values in held["statistics"].items():
        assert np.allclose(values, panel.statistics()._asdict()[name], atol=1e-4), name
    assert set(held["statistics"]) == {"entropy", "first", "distance", "current", "previous", "next"}


def test_layers_of_one_mask_share_it() -> None:
    (held,) = data_in(page([panel_of([Token("a"), Token("b")])], "m", ["a b"]))["panels"]
    assert len(held["masks"]) == 1
    assert held["mask_index"] == [0, 0]


def test_bytes_keep_small_weights_apart() -> None:
    weights = torch.tensor([0.0, 0.001, 0.002, 0.0078, 0.5, 1.0])
    assert quantize(weights).tolist() == [0, 8, 11, 23, 180, 255]


def test_a_number_that_is_none_is_null() -> None:
    (held,) = data_in(page([panel_of([Token("a")])], "m", ["a"]))["panels"]
    assert held["statistics"]["previous"] == [[None] * 4] * 2


def test_hostile_text_stays_text() -> None:
    html = page([panel_of([Token(HOSTILE), Token("<b>"), Token("\u2028")])], HOSTILE, [HOSTILE, HOSTILE])
    assert html.count("<script") == html.count("</script>") == 2  # the data and the page's own
    assert "<img" not in html
    assert "<!-- {{data" not in html
    held = data_in(html)
    assert held["model"] == HOSTILE
    assert held["texts"] == [HOSTILE, HOSTILE]
    assert held["panels"][0]["queries"][0][0] == HOSTILE
    title = re.search("<title>(.*)</title>", html)
    assert title
    assert "<" not in title[1]


def test_nothing_is_fetched_and_no_other_script_may_run() -> None:
    html = page([panel_of([Token("a")])], "m", ["a"])
    assert html.startswith(f"<!doctype html>\n{PAGE_MARKER}\n")
    assert not re.search(r"""(?:src|href)=|url\(|@import|https?://""", html)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy[1]


@pytest.mark.parametrize("text", ["one", "long " * 100])
def test_the_title_says_model_and_text(text: str) -> None:
    title = re.search("<title>(.*)</title>", page([panel_of([Token("a")])], "bert", [text, "two"]))
    assert title
    assert title[1].startswith(f"Attention · bert · {text[:60].strip()}")
    assert len(title[1]) < 110
