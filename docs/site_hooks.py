"""Hooks of the documentation site (MkDocs): pages that lie outside `docs/`, and one API page for each package.

README, CONTRIBUTING, CHANGELOG, SECURITY and `benchmarks/results/*.md` become pages of the site. In every page, links that
are right in the repository are rewritten to the page of the site that shows the same file; a link to a source file leads
to the API page of its module, and a link to another file becomes its path in code style.
"""

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))

from draw_floor_plan import read_packages  # noqa: E402  (docs/ is no package)

PROJECT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
RESULTS = "benchmarks/results"
LOADED = re.compile(  # what a browser fetches by itself, in contrast to a link that is followed
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?((?:https?:)?//[^\"'\s>]+)"
    r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon))[^>]*\bhref=[\"']?((?:https?:)?//[^\"'\s>]+)"
    r"|(?:@import\s+(?:url\()?|url\()\s*[\"']?((?:https?:)?//[^\"'\s)]+)",
    re.I,
)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def pages_from_outside() -> dict[str, str]:
    """Path in the repository -> path in the site."""
    results = {f"{RESULTS}/{path.name}": f"results/{path.name}" for path in sorted((ROOT / RESULTS).glob("*.md"))}
    return {**PROJECT_PAGES, **results}


def api_pages() -> dict[str, str]:
    """Package -> path in the site."""
    return {name: f"api/{name}.md" for name in read_packages()}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Completes the navigation: measurements and API pages are listed from the files that exist."""
    results = [{Path(p).stem.replace("-", " "): p} for p in pages_from_outside().values() if p.startswith("results/")]
    nav: list[Any] = [{"Measured": results} if "Measured" in item else item for item in config.nav or []]
    config.nav = [
        *nav,
        {"API": [{"protoformer": "api/index.md"}, *({name: page} for name, page in api_pages().items())]},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, site in pages_from_outside().items():
        files.append(File.generated(config, site, content=(ROOT / source).read_text(encoding="utf-8")))
    for picture in sorted((ROOT / RESULTS).glob("*.svg")) + sorted((ROOT / RESULTS).glob("*.png")):
        files.append(File.generated(config, f"results/{picture.name}", abs_src_path=str(picture)))
    listing = "\n".join(f"- [`protoformer.{name}`]({Path(page).name})" for name, page in api_pages().items())
    public = "::: protoformer\n    options: {show_submodules: false, heading_level: 3}\n"
    text = f"# API reference\n\n{public}\n## Packages\n\n{listing}\n"
    files.append(File.generated(config, "api/index.md", content=text))
    for name, page in api_pages().items():
        files.append(File.generated(config, page, content=f"# protoformer.{name}\n\n::: protoformer.{name}\n"))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    source = next((s for s, site in pages_from_outside().items() if site == here), f"docs/{here}")
    if here.startswith("api/"):
        return markdown

    def rewritten(match: re.Match[str]) -> str:
        bang, text, target = match.groups()
        path, _, anchor = target.partition("#")
        if "://" in target or not path:
            return match[0]
        found = site_target(posixpath.normpath(posixpath.join(posixpath.dirname(source), path)), anchor)
        if found is None:
            return text if "`" in text else f"`{text}`"
        return f"{bang}[{text}]({posixpath.relpath(found[0], posixpath.dirname(here) or '.')}{found[1]})"

    # code blocks are left as they are: every second part of the split is one
    parts = re.split(r"(^```.*?^```)", markdown, flags=re.M | re.S)
    return "".join(part if i % 2 else LINK.sub(rewritten, part) for i, part in enumerate(parts))


def site_target(path: str, anchor: str) -> tuple[str, str] | None:
    """Page of the site that shows a file of the repository, and the anchor in it; None when no page does."""
    suffix = f"#{anchor}" if anchor else ""
    outside = pages_from_outside()
    if path in outside:
        return outside[path], suffix
    if path.startswith("docs/"):
        return path.removeprefix("docs/"), suffix
    if path.startswith(f"{RESULTS}/") and (ROOT / path).is_file():
        return path.replace(RESULTS, "results", 1), suffix
    parts = Path(path).with_suffix("").parts
    if parts[:2] == ("src", "protoformer") and len(parts) > 2 and parts[2] in api_pages():
        module = ".".join(part for part in parts[1:] if part != "__init__")
        return api_pages()[parts[2]], f"#{module}" if len(parts) > 3 else ""
    return None


def on_post_build(config: MkDocsConfig) -> None:
    """Raises PluginError when a page or style sheet of the built site would load something from another host."""
    site = Path(config.site_dir)
    for path in sorted([*site.rglob("*.html"), *site.rglob("*.css")]):
        loaded = ["".join(groups) for groups in LOADED.findall(path.read_text(encoding="utf-8"))]
        if loaded:
            raise PluginError(f"{path.relative_to(site)} loads from another host: {', '.join(sorted(set(loaded)))}")
