"""The architecture page: every package and file that it names exists, every package is named, no stated rule is broken."""

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SOURCE = ROOT / "src" / "protoformer"


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """The code in the first cell of each row of a table."""
    return re.findall(r"^\| `([^`]+)` \|", text, re.M)


def test_the_table_lists_each_package() -> None:
    packages = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert set(first_cells(section("Floor plan"))) == packages - {"__init__"}


def test_no_package_imports_what_its_row_excludes() -> None:
    packages = runpy.run_path(str(ROOT / "docs" / "draw_floor_plan.py"))["read_packages"]()
    for name, excluded in re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", section("Floor plan"), re.M):
        others = set(re.findall(r"`(\w+)`", excluded))
        frameworks = {word.strip().lower() for word in excluded.split(",")}
        assert not packages[name].imports & others, name
        assert not packages[name].frameworks & frameworks, name
        if excluded.strip() == "anything":
            assert not packages[name].imports | packages[name].frameworks, name


def test_the_tour_is_of_six_files() -> None:
    links = re.findall(r"^\d\. \[[^\]]+\]\(([^)]+)\)", section("Reading tour"), re.M)
    assert len(set(links)) == 6
    assert all((ROOT / "docs" / link).is_file() for link in links)


def test_each_row_of_papers_names_files_that_exist() -> None:
    rows = [line for line in section("Paper, section, file").splitlines() if re.match(r"\| (?!-|paper\b)", line)]
    assert len(rows) >= 30
    for row in rows:
        links = re.findall(r"\]\((\.\./[^)#]+)\)", row)
        assert links, row
        assert all((ROOT / "docs" / link).is_file() for link in links), row


def test_paths_in_code_style_exist() -> None:
    for path in re.findall(r"`((?:src|conf|docs|tests|blocks|models|data|text|training)/[\w./]*)`", PAGE):
        assert any((base / path).exists() for base in (ROOT, SOURCE)), path
