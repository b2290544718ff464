"""Tokens of the attention page coloured by attention, attention rollout and integrated gradients, in a real browser."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from protoformer.attribution.integrated_gradients import Attributions
from protoformer.attribution.rollout import attention_rollout
from protoformer.views.attention import page
from protoformer.views.panels import Panel, RolloutPanel, Token, TokenAttributions

from .browser import Browser, chromium

MINUS = "\N{MINUS SIGN}"
pytestmark = pytest.mark.skipif(chromium is None, reason="no Chromium is installed (Debian: apt-get install chromium)")

PAD = Token("[PAD]", special=True, padding=True)
HOSTILE = "</script><img src=x onerror=\"document.title='had'\">"
WORDS = [Token("[CLS]", special=True), Token("not"), Token("good"), Token(HOSTILE)]
VALUES = [0.0, -1.5, 0.75, 0.015625]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


def example(attributions: TokenAttributions | str) -> tuple[Panel, str]:
    """Two layers of two heads over four tokens and padding, with their rollout."""
    weights = (2 * torch.randn(2, 2, 5, 5, generator=torch.Generator().manual_seed(1))).softmax(-1)
    weights[..., 4], weights[..., 4, :] = 0, 0
    weights /= weights.sum(-1, keepdim=True).clamp(min=1e-9)
    allowed = torch.ones(2, 5, 5, dtype=torch.bool)
    allowed[..., 4] = False
    rollout = torch.zeros(2, 5, 5)
    rollout[:, :4, :4] = attention_rollout(weights[:, :, :4, :4].mean(1))
    reach = torch.zeros(5, 5, dtype=torch.bool)
    reach[:4, :4] = True
    tokens = [*WORDS, PAD]
    panel = Panel("encoder self-attention", tokens, tokens, [1, 2], weights, allowed)
    panel = replace(panel, rollout=RolloutPanel(rollout, reach))
    return panel, page([panel], "a model", ["a text"], attributions=attributions)


@pytest.fixture
def shown(browser: Browser, tmp_path: Path) -> tuple[Browser, Panel]:
    values = Attributions(torch.tensor(VALUES, dtype=torch.double), 2.0, 2.75, 64)
    panel, html = example(TokenAttributions("<b>negative</b>", WORDS, values))
    return opened(browser, tmp_path, html), panel


def opened(browser: Browser, folder: Path, html: str) -> Browser:
    (folder / "page.html").write_text(html, encoding="utf-8")
    browser.errors.clear()
    browser.requests.clear()
    browser.scheme("light")
    browser.resize(1440, 900)
    browser.open(folder / "page.html")
    browser.value("choose(1, 0)")
    return browser


def note(browser: Browser) -> str:
    return browser.value("$('tokens-note').textContent")


def labels(browser: Browser) -> list[str]:
    return browser.value(
        "[...document.querySelectorAll('#tokens .token')].map(chip => chip.getAttribute('aria-label'))"
    )


def grounds(browser: Browser) -> list[list[int]]:
    colours = "[...document.querySelectorAll('#tokens .token')].map(chip => getComputedStyle(chip).backgroundColor)"
    return [[int(part) for part in text[4:-1].split(",")] for text in browser.value(colours)]


def pressed(browser: Browser) -> list[str]:
    return browser.value(
        "[...document.querySelectorAll('#coloring [aria-pressed=true]')].map(button => button.textContent)"
    )


def percentages(row: Any) -> list[float]:
    return [100 * float(value) for value in row]


def test_attention_is_the_mean_over_queries_or_that_of_the_pinned_token(shown: tuple[Browser, Panel]) -> None:
    browser, panel = shown
    assert pressed(browser) == ["attention"]
    assert note(browser) == "Weights of layer 2, head 1, mean over all queries."
    seen = [float(label.rpartition(", ")[2].removesuffix("%")) for label in labels(browser)[:4]]
    assert seen == pytest.approx(percentages(panel.weights[1, 0, :4, :4].mean(0)), abs=1)
    assert labels(browser)[4] == "[PAD], padding"
    browser.value("document.querySelectorAll('#tokens .token')[1].click()")
    assert note(browser) == "Weights of layer 2, head 1, of “not” (2)."
    seen = [float(label.rpartition(", ")[2].removesuffix("%")) for label in labels(browser)[:4]]
    assert seen == pytest.approx(percentages(panel.weights[1, 0, 1, :4]), abs=1)


def test_rollout_is_shown_in_tokens_lines_and_matrix(shown: tuple[Browser, Panel]) -> None:
    browser, panel = shown
    assert panel.rollout is not None
    drawn = "[$('matrix').toDataURL(), $('lines').toDataURL()]"
    before = browser.value(drawn)
    browser.key("c")
    assert pressed(browser) == ["attention rollout"]
    assert browser.value("$('chosen').textContent") == "Rollout up to layer 2"
    assert all(old != new for old, new in zip(before, browser.value(drawn), strict=True))
    browser.key("ArrowDown", shift=True)
    seen = [float(label.rpartition(", ")[2].removesuffix("%")) for label in labels(browser)[:4]]
    assert seen == pytest.approx(percentages(panel.rollout.weights[1, 0, :4]), abs=1)
    assert browser.value("$('readout').textContent").startswith("[CLS] (1) draws on ")
    browser.key("ArrowUp")
    assert note(browser) == "Rollout up to layer 1, of “[CLS]” (1)."
    browser.key("Escape")
    assert browser.errors == []


def test_integrated_gradients_are_signed_in_two_hues_with_numbers(shown: tuple[Browser, Panel]) -> None:
    browser, _ = shown
    browser.value("document.querySelector('#coloring [data-name=gradients]').click()")
    assert pressed(browser) == ["integrated gradients"]
    assert note(browser) == (
        "Logit of <b>negative</b>: 2.00; of the baseline, with zero vectors in place of the tokens of the text: 2.75. "
        f"Difference {MINUS}0.75, tokens sum to {MINUS}0.73: completeness error 0.69% with 64 steps."
    )
    assert labels(browser)[:3] == ["[CLS], +0.00", f"not, {MINUS}1.50", "good, +0.75"]
    assert browser.value("[...document.querySelectorAll('#tokens small')].map(each => each.textContent)") == [
        "0", f"{MINUS}1.50", "+0.75", "+0.02", ""]  # fmt: skip
    zero, negative, positive, *_ = grounds(browser)
    assert zero == [255, 255, 255]
    assert negative == [194, 90, 0]  # orange, at the largest
    assert positive == [143, 175, 212]  # half of the way to blue
    assert browser.value("$('tokens-legend').textContent") == f"{MINUS}1.50 lowers the logit+1.50 raises it"
    assert "Layer 2, head 1" in browser.value("$('chosen').textContent")  # the head stays in view


def test_text_on_every_colour_has_contrast(shown: tuple[Browser, Panel]) -> None:
    """WCAG 2: 4.5 to 1, on all of both scales, light and dark."""
    browser, _ = shown
    for scheme in ("light", "dark"):
        browser.scheme(scheme)
        browser.settle()
        least = browser.value("""(() => {
          const linear = (v) => (v / 255 <= 0.03928 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4);
          const light = (rgb) => 0.2126 * linear(rgb[0]) + 0.7152 * linear(rgb[1]) + 0.0722 * linear(rgb[2]);
          let least = 21;
          for (let at = 0; at <= 100; at++) for (const ground of [signedColor(at / 50 - 1), rampColor(at / 100)]) {
            const ink = light([1, 3, 5].map((from) => parseInt(inkOn(ground).slice(from, from + 2), 16)));
            const back = light(ground);
            least = Math.min(least, (Math.max(ink, back) + 0.05) / (Math.min(ink, back) + 0.05));
          }
          return least })()""")
        assert least >= 4.5, (scheme, least)
    browser.scheme("light")


def test_tokens_are_reached_by_keys(shown: tuple[Browser, Panel]) -> None:
    browser, _ = shown
    browser.value("document.querySelector('#coloring [data-name=gradients]').focus()")
    browser.key("Tab")
    assert browser.value("document.activeElement.getAttribute('aria-label')").startswith("[CLS], ")
    browser.key("Enter")
    assert browser.value("document.activeElement.getAttribute('aria-pressed')") == "true"
    browser.key("ArrowDown", shift=True)
    assert browser.value("document.activeElement.getAttribute('aria-label')").startswith("not, ")
    browser.key("Tab")  # of the tokens one alone is a stop
    assert not browser.value("$('tokens').contains(document.activeElement)")
    browser.key("Escape")
    for expected in ("attention rollout", "integrated gradients", "attention"):
        browser.key("c")
        assert pressed(browser) == [expected]


def test_hostile_tokens_are_text_and_nothing_is_requested(shown: tuple[Browser, Panel]) -> None:
    browser, _ = shown
    for _ in range(3):
        browser.key("c")
    assert browser.value("document.querySelectorAll('img, #tokens b, #tokens-note b').length") == 0
    assert browser.value("document.querySelectorAll('#tokens .token')[3].firstChild.textContent") == HOSTILE
    assert browser.value("document.title").startswith("Attention")
    assert browser.errors == []
    assert len(browser.requests) == 1


def test_what_is_missing_is_disabled_with_the_reason(browser: Browser, tmp_path: Path) -> None:
    panel, _ = example("this model has <i>no</i> head")
    html = page([replace(panel, rollout=None)], "m", ["a"], attributions="this model has <i>no</i> head")
    opened(browser, tmp_path, html)
    buttons = browser.value(
        "[...document.querySelectorAll('#coloring button')].map(each => [each.disabled, each.title])"
    )
    assert [disabled for disabled, _ in buttons] == [False, True, True]
    assert buttons[2][1] == "Not available: this model has <i>no</i> head"
    browser.key("c")
    assert pressed(browser) == ["attention"]
    assert browser.errors == []


@pytest.mark.parametrize("size", [(1440, 900), (420, 800)])
def test_nothing_runs_over(shown: tuple[Browser, Panel], size: tuple[int, int]) -> None:
    browser, _ = shown
    browser.resize(*size)
    for _ in range(3):
        browser.key("c")
        assert browser.value("document.documentElement.scrollWidth <= innerWidth")
        assert browser.value("(box => box.scrollWidth <= box.clientWidth)($('tokens'))")
    browser.resize(1440, 900)
