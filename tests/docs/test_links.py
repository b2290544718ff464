"""Links of the README, the project's pages, `docs/` and `benchmarks/results/`: files, anchors and pictures exist.

Checked without a network and without MkDocs. Addresses of other sites are not requested.
"""

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks" / "results").glob("*.md")])
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", re.M | re.S)
INLINE = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"^\[[^\]]+\]:\s*(\S+)", re.M)
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")  # also inside of a link's text
HTML = re.compile(r"<(?:img|a|source)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"", re.I)


def links(page: Path) -> list[str]:
    """Targets of a page's links and pictures, outside of code."""
    text = CODE.sub(lambda code: "`" if "\n" not in code[0] else "", page.read_text(encoding="utf-8"))
    return [*dict.fromkeys(INLINE.findall(text) + PICTURE.findall(text)), *REFERENCE.findall(text), *HTML.findall(text)]


@cache
def anchors(page: Path) -> frozenset[str]:
    """Anchors of a page's headings, as both GitHub and Python-Markdown derive them, and explicit ones."""
    text = page.read_text(encoding="utf-8")
    fenced = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.M | re.S)
    results: list[str] = []
    for title in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", fenced, re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        kept = re.sub(r"[^\w\s-]", "", plain).strip().lower()
        github, markdown = re.sub(r"\s", "-", kept), re.sub(r"[-\s]+", "-", kept)
        if github == markdown:  # a heading whose anchor differs between the two cannot be linked to
            results.append(github)
    doubles = {name for name in results if results.count(name) > 1}
    explicit = re.findall(r"\b(?:id|name)=\"([^\"]+)\"", fenced)
    return frozenset({name for name in results if name not in doubles} | set(explicit))


def broken(page: Path) -> list[str]:
    """Each link of a page that leads nowhere, with the reason."""
    wrong = []
    for target in links(page):
        if re.match(r"[a-z][a-z0-9+.-]*:", target, re.I):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            wrong.append(f"{target}: no such file")
        elif not file.is_relative_to(ROOT):
            wrong.append(f"{target}: outside of the repository")
        elif anchor and file.suffix == ".md" and anchor not in anchors(file):
            wrong.append(f"{target}: {file.name} has no heading with this anchor")
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_resolve(page: Path) -> None:
    assert not broken(page)


def test_all_pages_are_found() -> None:
    assert len(PAGES) >= 20
    assert sum(len(links(page)) for page in PAGES) >= 50


def test_a_broken_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# A title: one\n\n[good](#a-title-one) [bad](#two) [gone](other.md) ![picture](x.png) [site](https://example.org)\n"
        '[![badge](y.svg)](page.md) <img alt="z" src="z.png">\n\n`[code](no.md)`\n\n```\n[code](no.md)\n```\n'
    )
    assert [line.split(":")[0] for line in broken(page)] == ["#two", "other.md", "x.png", "y.svg", "z.png"]


def test_pages_of_docs_are_in_the_navigation() -> None:
    """A page of `docs/` that `mkdocs.yml` does not name would not be reached from the site's menu."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert f": {page.relative_to(ROOT / 'docs')}" in navigation
