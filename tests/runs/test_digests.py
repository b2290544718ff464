"""The digest of the code: what counts, and what leaves finished runs valid."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from protoformer.runs.digests import PACKAGE, split_docstrings

FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package's sources."""
    copy = tmp_path_factory.mktemp("src") / "protoformer"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def digest(tree: Path) -> str:
    code = "from protoformer.runs.digests import code_digest; print(code_digest())"
    environment = {**os.environ, "PYTHONPATH": str(tree.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return run.stdout.strip()


@pytest.mark.parametrize(
    ("file", "old", "new", "same"),
    [
        pytest.param("blocks/attention.py", '"""', '"""Edited. ', True, id="docstring"),
        pytest.param("blocks/attention.py", "\nfrom ", "  # a comment\n\n# another\nfrom ", True, id="comment"),
        pytest.param("commands/train.py", "HELP = ", "ADDED = 1\nHELP = ", True, id="command"),
        pytest.param("reporting/card.py", "import ", "import sys as _\nimport ", True, id="report"),
        pytest.param("blocks/attention.py", "\nfrom ", "\nADDED = 1\nfrom ", False, id="block"),
        pytest.param("scoring/main_score.py", "0.0 if", "1.0 if", False, id="number"),
        pytest.param("models/bert.py", "def bert(", "def bert2(", False, id="name"),
    ],
)
def test_an_edited_block_makes_another_digest_and_an_edited_docstring_or_command_does_not(
    tree: Path, file: str, old: str, new: str, same: bool
) -> None:
    path = tree / file
    before, text = digest(tree), path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    after = digest(tree)
    path.write_text(text, encoding="utf-8")
    assert (after == before) is same


def test_a_new_file_makes_another_digest(tree: Path) -> None:
    before = digest(tree)
    (tree / "blocks" / "added.py").write_text("")
    after = digest(tree)
    (tree / "blocks" / "added.py").unlink()
    assert after != before


@pytest.mark.parametrize("file", FILES)
def test_the_docstrings_of_the_package_are_those_of_its_syntax_trees(file: str) -> None:
    source = (PACKAGE / file).read_text(encoding="utf-8")
    nodes = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    expected = [node.value.value for node in sorted(nodes, key=lambda node: node.lineno)]  # type: ignore[attr-defined]
    assert [ast.literal_eval(text) for text in split_docstrings(source)[1]] == expected


SOURCE = '''"""Module."""
# comment
def f(a, *, b="# no comment"):  # comment
    """Docstring with # and \\\\.""" # comment

    text = (
        """kept"""
        "kept too"
    )
    "a".join(text); r"\\"
    return f"{a!r:>{b}}" + \\
        "kept as well"
'''


def test_strings_inside_expressions_stay() -> None:
    code, docstrings = split_docstrings(SOURCE)
    assert docstrings == ['"""Module."""', '"""Docstring with # and \\\\."""']
    assert code.splitlines() == [
        'def f(a, *, b="# no comment"):',
        "    text = (",
        '        """kept"""',
        '        "kept too"',
        "    )",
        '    "a".join(text); r"\\"',
        '    return f"{a!r:>{b}}" + \\',
        '        "kept as well"',
    ]
