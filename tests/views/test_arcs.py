"""The page of arcs in a real browser, and the figure of all heads."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from protoformer.views.arcs import BestHead, ShownSentence, arcs_page
from protoformer.views.heads.relation_grid import GridHead, draw_grid

from .browser import Browser, chromium
from .test_attention_page import HOSTILE, shown_text

SENTENCES = [
    ShownSentence(["cats", "sit", "."], [(0, 1, "nsubj")], 1, [[1, 0, -1], [1, 1, -1]], [[90, 40, 0], [50, 50, 0]]),
    ShownSentence([HOSTILE, "ran"], [(0, 1, HOSTILE)], 1, [[1, 0], [1, -1]], [[90, 40], [50, 0]]),
]
BEST = [BestHead("nsubj", "to head", 1, 80.0, 60.0), BestHead("any", "to head", 0, 50.0, 40.0)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if chromium is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    file = tmp_path_factory.mktemp("page") / "arcs.html"
    file.write_text(arcs_page("a model", "a treebank", "a note", {1: 1, 2: 1}, SENTENCES, BEST), encoding="utf-8")
    with Browser() as opened:
        opened.open(file)
        yield opened


def test_it_opens_on_the_best_head(browser: Browser) -> None:
    browser.value("show({ sentence: 0, head: 1, best: 0 })")
    assert shown_text(browser, "#chosen") == "Head 2-1"
    assert shown_text(browser, "#readout").startswith("1 of 1 words") or shown_text(browser, "#readout").startswith(
        "1 of 2"
    )
    assert browser.value("document.querySelectorAll('#picture path.gold').length") == 1
    assert browser.value("document.querySelectorAll('#statistics tbody tr').length") == 2
    assert browser.value("document.querySelectorAll('#overview .cell').length") == 2
    assert browser.errors == []
    assert all(url.startswith("file:") for url in browser.requests)


def test_heads_sentences_and_keys(browser: Browser) -> None:
    browser.value("show({ sentence: 0, head: 0, best: null })")
    assert browser.value("document.querySelectorAll('#picture path.hit').length") == 2
    assert browser.value("document.querySelectorAll('#picture path.miss').length") == 0
    browser.key("ArrowRight")
    assert shown_text(browser, "#chosen") == "Head 2-1"
    assert browser.value("document.querySelectorAll('#picture path.miss').length") == 1
    browser.value("document.querySelectorAll('#statistics tbody tr')[1].click()")
    assert shown_text(browser, "#chosen") == "Head 1-1"
    assert browser.value("document.querySelector('#statistics tr[aria-selected=true] td').textContent") == "any"
    browser.value("document.getElementById('after').click()")
    assert browser.value("state.sentence") == 1


def test_hostile_words_are_text(browser: Browser) -> None:
    browser.value("show({ sentence: 1, head: 0, best: null })")
    assert browser.value("document.title") == "Heads and syntax · a model · a treebank"
    assert browser.value("document.querySelectorAll('img').length") == 0
    assert (
        browser.value("[...document.querySelectorAll('#picture text')].map((each) => each.textContent)").count(HOSTILE)
        >= 2
    )
    assert browser.errors == []


def test_the_figure_is_the_same_for_the_same_heads(tmp_path: Path) -> None:
    heads = {
        1: [GridHead("det", "→ head", 90.0), GridHead(None, "→ head", 3.0)],
        3: [GridHead("nsubj", "→ dep.", 50.0)],
    }
    first = draw_grid("a <title>", heads, ["det", "nsubj"], tmp_path / "a.svg").read_bytes()
    assert first == draw_grid("a <title>", heads, ["det", "nsubj"], tmp_path / "b.svg").read_bytes()
    assert b"a <title>" not in first
