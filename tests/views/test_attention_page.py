"""The attention page in a real browser: it draws, answers to pointer and keys, makes no requests, and runs nobody's script."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from protoformer.models.bert import bert
from protoformer.models.gpt import gpt
from protoformer.models.transformer import transformer
from protoformer.views.attention import page
from protoformer.views.panels import Panel, Token, TokenizedText, panels_of_backbone, panels_of_encoder_decoder

from .browser import Browser, chromium

pytestmark = pytest.mark.skipif(chromium is None, reason="no Chromium is installed (Debian: apt-get install chromium)")

PAD = Token("[PAD]", special=True, padding=True)
HOSTILE = "</script><img src=x onerror=\"document.title='had'\"><script>document.title='had'</script>"
# the different colours of a canvas
COLOURS = """(id => { const c = document.getElementById(id);
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  return new Set(new Uint32Array(d.buffer)).size })"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.fixture
def small(browser: Browser, tmp_path: Path) -> Browser:
    """Two layers of three heads over five tokens and padding."""
    words = [Token("[CLS]", special=True), Token("cats"), Token("sit", segment=1), Token("here", segment=1), PAD]
    opened = shown(browser, tmp_path, panels_of_backbone(model(bert), TokenizedText(torch.arange(5), words), [1, 2]))
    opened.value("choose(0, 0)")
    return opened


def test_it_opens_on_a_telling_head_and_shows_what_the_model_predicts(browser: Browser, tmp_path: Path) -> None:
    panels = panels_of_backbone(model(bert), TokenizedText(torch.arange(5), [Token(word) for word in "abcde"]), [1, 2])
    layer, head = panels[0].telling_head()
    assert (layer, head) != (0, 0)
    file = tmp_path / "page.html"
    file.write_text(page(panels, "a model", ["a text"], prediction="<b>yes</b> 72 %"), encoding="utf-8")
    browser.open(file)
    assert shown_text(browser, "#chosen") == f"Layer {layer + 1}, head {head + 1}"
    assert shown_text(browser, "#texts").endswith("→<b>yes</b> 72 %")


def model(build: Any, **more: Any) -> Any:
    torch.manual_seed(3)
    sizes = {"vocab_size": 200, "d_model": 24, "n_layers": 2, "n_heads": 3, "d_ff": 24, "init_std": 0.5}
    return build(**sizes, **more).eval()


def shown(browser: Browser, folder: Path, panels: list[Panel], name: str = "a model", text: str = "a text") -> Browser:
    file = folder / "page.html"
    file.write_text(page(panels, name, [text]), encoding="utf-8")
    browser.errors.clear()
    browser.requests.clear()
    browser.open(file)
    return browser


def at(browser: Browser, selector: str) -> tuple[float, float, float, float]:
    """Left, top, width and height."""
    return tuple(
        browser.value(
            f"(b => [b.left, b.top, b.width, b.height])(document.querySelector('{selector}').getBoundingClientRect())"
        )
    )


def shown_text(browser: Browser, selector: str) -> str:
    return browser.value(f"document.querySelector('{selector}').textContent")


def test_it_draws_all_heads_and_one_in_detail(small: Browser) -> None:
    assert small.value("document.querySelectorAll('#overview .cell canvas').length") == 6
    assert small.value(f"{COLOURS}('lines')") > 20
    assert small.value(f"{COLOURS}('matrix')") > 20
    assert shown_text(small, "#chosen") == "Layer 1, head 1"
    assert shown_text(small, "#size") == "2 layers × 3 heads"  # noqa: RUF001
    assert small.value("document.querySelectorAll('#statistics tbody tr').length") == 6
    assert "padding" in shown_text(small, "#legend")
    assert "not visible" not in shown_text(small, "#legend")  # an encoder's only mask
    assert small.errors == []
    assert all(url.startswith("file:") for url in small.requests)
    assert len(small.requests) == 1


def test_pixels_are_the_weights(small: Browser) -> None:
    """A cell of the matrix is as dark as its weight, by the page's own scale; where padding stands, it is hatched."""
    colours = small.value("""(() => {
      const g = geometry.matrix, r = devicePixelRatio, seen = [];
      const pen = document.getElementById('matrix').getContext('2d');
      for (let q = 0; q < 4; q++) for (let k = 0; k < 4; k++) {
        const d = pen.getImageData((g.x + (k + .5) * g.cell) * r, (g.y + (q + .5) * g.cell) * r, 1, 1).data;
        const code = codesOf(0, 0)[q * 5 + k];
        seen.push([[...d].slice(0, 3), [...colors.ramp.slice(3 * code, 3 * code + 3)]]);
      }
      return seen
    })()""")
    assert len(colours) == 16
    assert all(drawn == expected for drawn, expected in colours)
    assert len({tuple(drawn) for drawn, _ in colours}) > 6


def test_keys_move_through_heads_and_layers(small: Browser) -> None:
    before = small.value("document.getElementById('matrix').toDataURL()")
    for key, chosen in (
        ("ArrowRight", "Layer 1, head 2"),
        ("ArrowDown", "Layer 2, head 2"),
        ("End", "Layer 2, head 3"),
        ("ArrowRight", "Layer 2, head 3"),  # there is none beside it
        ("ArrowUp", "Layer 1, head 3"),
        ("Home", "Layer 1, head 1"),
        ("ArrowDown", "Layer 2, head 1"),
    ):
        small.key(key)
        assert shown_text(small, "#chosen") == chosen, key
    assert (
        small.value("document.querySelector('.cell[aria-pressed=true]').getAttribute('aria-label')")
        == "layer 2, head 1"
    )
    assert small.value("document.querySelector('tr[aria-selected=true] td').textContent") == "2-1"
    assert small.value("document.getElementById('matrix').toDataURL()") != before
    small.key("?")
    assert small.value("document.getElementById('help').open")
    small.key("ArrowDown")  # goes to the help, not to the heads
    small.key("Escape")
    assert not small.value("document.getElementById('help').open")
    assert shown_text(small, "#chosen") == "Layer 2, head 1"
    assert small.errors == []


def test_tab_reaches_what_can_be_pressed(small: Browser) -> None:
    reached = []
    for _ in range(4):
        small.key("Tab")
        reached.append(small.value("document.activeElement.id || document.activeElement.className"))
    assert reached[:3] == ["theme", "ask", "cell"]  # of the heads the chosen one alone
    small.value("document.querySelector('.cell[aria-pressed=true]').focus()")
    small.key("ArrowRight")
    assert small.value("document.activeElement.getAttribute('aria-label')") == "layer 1, head 2"


def test_the_pointer_reads_a_token_and_a_click_holds_it(small: Browser) -> None:
    left, top, _, _ = at(small, "#lines")
    step = small.value("geometry.lines.step")
    whole = small.value("document.getElementById('lines').toDataURL()")
    small.point(left + 20, top + 1.5 * step)
    text = shown_text(small, "#readout")
    assert text.startswith("cats (2) attends to ")
    shares = [float(share) for share in small.value(
        "[...document.querySelectorAll('#readout i')].map(i => i.textContent.match(/([0-9.]+)%/)[1])")]  # fmt: skip
    assert len(shares) == 4
    assert sum(shares) == pytest.approx(100, abs=3)
    assert shares == sorted(shares, reverse=True)
    assert small.value("document.getElementById('lines').toDataURL()") != whole
    small.point(5, 5)
    assert shown_text(small, "#readout").startswith("Point at a token")
    assert small.value("document.getElementById('lines').toDataURL()") == whole
    small.point(left + 20, top + 2.5 * step, click=True)
    small.point(5, 5)
    assert shown_text(small, "#readout").startswith("sit (3) attends to ")  # still
    small.key("ArrowDown", shift=True)
    assert shown_text(small, "#readout").startswith("here (4) attends to ")
    small.key("Escape")
    assert shown_text(small, "#readout").startswith("Point at a token")
    assert small.errors == []


def test_the_pointer_reads_a_cell_and_padding(small: Browser) -> None:
    left, top, _, _ = at(small, "#matrix")
    x, y, cell = small.value("[geometry.matrix.x, geometry.matrix.y, geometry.matrix.cell]")
    small.point(left + x + 1.5 * cell, top + y + 2.5 * cell)
    share = small.value("weight(codesOf(0, 0)[2 * 5 + 1])")
    assert shown_text(small, "#readout").startswith(
        f"sit (3) → cats (2) {100 * share:.{0 if share >= 0.0995 else 1}f}%"
    )
    small.point(left + x + 4.5 * cell, top + y + 1.5 * cell)
    assert shown_text(small, "#readout").startswith("cats (2) → [PAD] (5) padding, masked")
    small.point(left + x + 1.5 * cell, top + y + 4.5 * cell)
    assert "is padding" in shown_text(small, "#readout")


def test_numbers_sort(small: Browser) -> None:
    def column(number: int) -> list[str]:
        return small.value(
            f"[...document.querySelectorAll('#statistics tbody tr')].map(r => r.cells[{number}].textContent)"
        )

    assert column(0) == ["1-1", "1-2", "1-3", "2-1", "2-2", "2-3"]
    small.value("document.querySelectorAll('#statistics th button')[1].click()")
    down = [float(text) for text in column(1)]
    assert down == sorted(down, reverse=True)
    small.value("document.querySelectorAll('#statistics th button')[1].click()")
    assert [float(text) for text in column(1)] == sorted(down)
    small.value("document.querySelectorAll('#statistics tbody tr')[0].click()")
    layer, head = column(0)[0].split("-")
    assert shown_text(small, "#chosen") == f"Layer {layer}, head {head}"


def test_light_and_dark(small: Browser) -> None:
    grounds, drawn = set(), set()
    for scheme in ("light", "dark"):
        small.scheme(scheme)
        small.settle()
        grounds.add(small.value("getComputedStyle(document.body).backgroundColor"))
        drawn.add(small.value("document.getElementById('matrix').toDataURL()"))
    assert len(grounds) == len(drawn) == 2
    small.key("t")  # light, whatever the system is
    assert small.value("document.documentElement.dataset.theme") == "light"
    assert small.value("getComputedStyle(document.body).backgroundColor") == "rgb(246, 247, 249)"
    small.scheme("light")


def test_hostile_text_does_nothing(browser: Browser, tmp_path: Path) -> None:
    words = [Token(HOSTILE), Token("</script>"), Token("a" * 500), Token(""), Token("日本")]
    panels = panels_of_backbone(model(gpt), TokenizedText(torch.arange(5), words), [1, 2])
    shown(browser, tmp_path, panels, HOSTILE, HOSTILE)
    left, top, _, _ = at(browser, "#lines")
    for row in range(5):
        browser.point(left + 20, top + (row + 0.5) * browser.value("geometry.lines.step"), click=True)
    assert browser.value("document.title").startswith("Attention · </script><img")
    assert browser.value("document.querySelectorAll('img').length") == 0
    assert shown_text(browser, "#texts") == shown_text(browser, "#model") == HOSTILE
    assert "not visible to the query" in shown_text(browser, "#legend")  # what comes later
    assert browser.errors == []
    assert len(browser.requests) == 1
    # were a script to get in all the same, the page's policy would stop it
    browser.value("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')")
    browser.value(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'document.title=2'}))"
    )
    browser.settle()
    assert browser.value("document.title").startswith("Attention")
    browser.errors.clear()  # the policy's own words


def test_attention_to_another_text_has_its_panel(browser: Browser, tmp_path: Path) -> None:
    source = TokenizedText(torch.arange(5), [*map(Token, ("zwei", "Hunde", ".", "[end]")), PAD])
    target = TokenizedText(torch.arange(3), [*map(Token, ("[start]", "two", "dogs"))])
    torch.manual_seed(0)
    translator = transformer(vocab_size=30, d_model=24, n_layers=2, n_heads=3, d_ff=24).eval()
    shown(browser, tmp_path, panels_of_encoder_decoder(translator, source, target, [1, 2]))
    tabs = browser.value("[...document.querySelectorAll('[role=tab]')].map(t => t.textContent)")
    assert tabs == ["encoder self-attention", "decoder self-attention", "attention to the source"]
    # opened first: what is translated from what
    assert browser.value("document.querySelector('[aria-selected=true][role=tab]').textContent") == tabs[2]
    assert shown_text(browser, "#from") == "queries: target (each produces the next)"
    assert browser.value("[...document.querySelectorAll('#statistics th')].map(h => h.textContent)") == [
        "head", "entropy", "first"]  # fmt: skip
    left, top, width, _ = at(browser, "#lines")
    browser.point(left + width - 20, top + 1.5 * browser.value("geometry.lines.step"))
    assert shown_text(browser, "#readout").startswith("Hunde (2) is attended to by ")
    assert browser.errors == []


def test_a_long_text_in_many_heads_is_quick(browser: Browser, tmp_path: Path) -> None:
    """12 layers of 12 heads over 128 tokens: the page is small, and a key is answered at once."""
    torch.manual_seed(0)
    words = [Token(f"word{place}") for place in range(126)] + [PAD, PAD]
    allowed = torch.ones(12, 128, 128, dtype=torch.bool)
    allowed[..., 126:] = False
    weights = (2 * torch.randn(12, 12, 128, 128)).masked_fill(~allowed[:, None], -1e9).softmax(-1)
    shown(browser, tmp_path, [Panel("encoder self-attention", words, words, range(1, 13), weights, allowed)])
    assert (tmp_path / "page.html").stat().st_size < 4 * 2**20
    spent = browser.value("""(() => { const begun = performance.now();
      for (let at = 0; at < 10; at++) choose(at, at); return (performance.now() - begun) / 10 })()""")
    assert spent < 400, spent  # milliseconds a head
    assert browser.value("!document.getElementById('zoom').hidden")
    browser.key("z")
    assert browser.value("geometry.matrix.cell") == 13  # wide enough for names
    browser.value("document.getElementById('matrix-box').scrollTo(400, 300)")
    browser.settle()
    assert browser.value("geometry.matrix.left - geometry.matrix.x") == 400
    assert browser.value("document.documentElement.scrollWidth <= innerWidth")
    assert browser.errors == []


@pytest.mark.parametrize("size", [(1440, 900), (1100, 800), (800, 900), (420, 800)])
def test_nothing_overlaps_or_runs_over(small: Browser, size: tuple[int, int]) -> None:
    small.resize(*size)
    small.settle()
    selectors = (".what", "nav", ".tools", "aside", ".head", "#lines-card", "#matrix-card")
    boxes = [box for selector in selectors if (box := at(small, selector))[2]]
    assert (
        small.value("(box => box.scrollWidth <= box.clientWidth)(document.getElementById('statistics'))")
        or size[0] < 800
    )
    for number, (left, top, width, height) in enumerate(boxes):
        assert left >= 0
        assert left + width <= size[0]
        for x, y, w, h in boxes[number + 1 :]:
            assert left + width <= x + 1 or x + w <= left + 1 or top + height <= y + 1 or y + h <= top + 1
    small.resize(1440, 900)


def test_a_browser_that_is_too_old_is_told(browser: Browser, tmp_path: Path) -> None:
    hidden = browser.call("Page.addScriptToEvaluateOnNewDocument", source="delete globalThis.DecompressionStream")
    file = tmp_path / "page.html"
    words = [Token("a")]
    file.write_text(
        page(panels_of_backbone(model(bert), TokenizedText(torch.arange(1), words), [1]), "m", ["a"]), encoding="utf-8"
    )
    browser.open(file, ready="document.getElementById('readout')?.textContent")
    assert shown_text(browser, "#readout").startswith("This browser cannot show the page (DecompressionStream")
    browser.call("Page.removeScriptToEvaluateOnNewDocument", **hidden)
