"""The pages that explain the two packages show their files as they are."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("add-a-kind.md", "add-a-family.md")


def parts(tree: ast.Module) -> set[str]:
    """The syntax trees of all statements; of a class its head and its members, since a page may show some of them.

    Layout does not count: methods are shown without their class.
    """
    results = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            results.add(f"{node.name}({[ast.dump(part) for part in (*node.bases, *node.decorator_list)]})")
        elif isinstance(node, ast.stmt):
            results.add(ast.dump(node))
    return results


@pytest.mark.parametrize("page", PAGES)
def test_each_block_is_a_part_of_its_file(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r'^```(\w+) title="([^"]+)"\n(.*?)^```', text, re.M | re.S)
    assert len(blocks) >= 4
    for language, file, block in blocks:
        source = (ROOT / file).read_text(encoding="utf-8")
        if language == "python":
            assert parts(ast.parse(block)) <= parts(ast.parse(source)), f"{page}: {file} has changed"
        else:
            assert block in source, f"{page}: {file} has changed"


@pytest.mark.parametrize("page", PAGES)
def test_commands_name_folders_that_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for folder in re.findall(r"(?:--config-dir |PYTHONPATH=)(\S+)", text):
        assert (ROOT / folder).is_dir()
