"""The pages that explain the two packages show their files as they are."""

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("add-a-kind.md", "add-a-family.md")


@pytest.mark.parametrize("page", PAGES)
def test_each_block_is_a_part_of_its_file(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', text, re.M | re.S)
    assert len(blocks) >= 4
    for file, block in blocks:
        source = (ROOT / file).read_text(encoding="utf-8")
        method = textwrap.indent(block, "    ")  # methods alone are shown without the indentation of their class
        assert block in source or method in source, f"{page}: {file} has changed"


@pytest.mark.parametrize("page", PAGES)
def test_commands_name_folders_that_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for folder in re.findall(r"(?:--config-dir |PYTHONPATH=)(\S+)", text):
        assert (ROOT / folder).is_dir()
