"""The digest of the code: what counts, and what leaves finished runs valid."""

import ast
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from protoformer.runs.digests import PACKAGE, file_digest, matching_files, split_docstrings

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


def test_a_change_in_the_middle_of_a_large_file_is_seen_and_an_unchanged_file_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROTOFORMER_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "corpus.txt"
    content = b"The dog ran. " * 200_000
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))
    monkeypatch.setattr(time, "time", lambda: path.stat().st_ctime + 60)  # long after the file was written
    first = file_digest(path)
    (kept,) = (tmp_path / "cache" / "digests").iterdir()
    assert kept.read_text() == first == file_digest(path)
    kept.write_text("0" * 64)
    assert file_digest(path) == "0" * 64  # what is kept is believed as long as the file is not touched
    path.write_bytes(content[:1_000_000] + b"The cat ran. " + content[1_000_013:])
    os.utime(path, (1e9, 1e9))
    assert len(path.read_bytes()) == len(content)
    assert file_digest(path) not in (first, "0" * 64)


def test_a_file_that_was_just_written_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTOFORMER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "new.txt").write_bytes(bytes(2_000_000))
    file_digest(tmp_path / "new.txt")
    assert not (tmp_path / "cache").exists()


def test_names_are_read_as_they_stand_before_they_are_patterns(tmp_path: Path) -> None:
    folder = tmp_path / "texts [v2]"
    folder.mkdir()
    for name in ("a[1].txt", "a1.txt", "b.txt"):
        (folder / name).write_text("x")

    def names(pattern: str) -> list[str]:
        return [path.name for path in matching_files(f"{folder}/{pattern}")]

    assert names("a[1].txt") == ["a[1].txt"]
    assert names("a[12].txt") == ["a1.txt"]
    assert names("*.txt") == ["a1.txt", "a[1].txt", "b.txt"]
    assert names("**/b.txt") == ["b.txt"]
    assert names("c.txt") == []
