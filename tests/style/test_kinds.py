"""No table by kind of task or by family of models outside of their own packages: what they can do stands on their classes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from protoformer.models.hf import FAMILIES

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "protoformer"
KINDS = {
    kind
    for file in (ROOT / "conf" / "task").rglob("*.yaml")
    if (kind := (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("kind"))
}
HOMES_OF_KINDS = (
    "modules",
    "data/datamodules",
    "models/hf",  # a layout names the heads that `transformers` has
    "sample",  # "translation" is a column of data sets there
    "runs/upgrade.py",  # results of versions that stated nothing but the kind
)
HOMES_OF_FAMILIES = ("models/hf",)
BASES = {"TaskModule", "Evaluation", "InputTemplate", "FSDPModule"}


def trees(homes: tuple[str, ...]) -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(SOURCE.rglob("*.py")):
        name = file.relative_to(SOURCE).as_posix()
        if not name.startswith(homes):
            yield name, ast.parse(file.read_text(encoding="utf-8"))


def deciding_strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Strings that are compared with, or that a dict or a match statement decides by."""
    for node in ast.walk(tree):
        nodes: list[ast.expr | None] = []
        if isinstance(node, ast.Compare):
            nodes = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):
            nodes = list(node.keys)
        elif isinstance(node, ast.MatchValue):
            nodes = [node.value]
        for part in nodes:
            members = part.elts if isinstance(part, ast.Tuple | ast.List | ast.Set) else [part]
            for member in members:
                if isinstance(member, ast.Constant) and isinstance(member.value, str):
                    yield member.lineno, member.value


def decisions(names: set[str], homes: tuple[str, ...]) -> list[str]:
    return [
        f"{file}:{line}: {name}"
        for file, tree in trees(homes)
        for line, name in deciding_strings(tree)
        if name in names
    ]


def test_the_kinds_of_the_configuration_are_read() -> None:
    assert {"classification", "multiple_choice", "span", "pretraining", "translation", "causal_lm"} <= KINDS


def test_nothing_is_decided_by_the_name_of_a_kind() -> None:
    assert decisions(KINDS, HOMES_OF_KINDS) == []


def test_nothing_is_decided_by_the_name_of_a_family() -> None:
    assert decisions(set(FAMILIES), HOMES_OF_FAMILIES) == []


def test_no_class_of_a_kind_is_asked_for() -> None:
    actual = [
        f"{file}:{node.lineno}: {name}"
        for file, tree in trees(("modules", "data/datamodules"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance"
        for name in (each.strip() for each in ast.unparse(node.args[1]).strip("()").replace("|", ",").split(","))
        if name.endswith(("Module", "Evaluation", "Template")) and "." not in name and name not in BASES
    ]
    assert actual == []


@pytest.mark.parametrize(
    "source",
    ["kind == 'span'", "kind in ('span', 'other')", "{'span': 1}[kind]", "match kind:\n    case 'span':\n        pass"],
)
def test_the_check_sees_each_form(source: str) -> None:
    assert "span" in {name for _, name in deciding_strings(ast.parse(source))}
