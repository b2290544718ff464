"""Digests: of the code that makes results, of weight folders, of data files. Cheap enough to take at every start."""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

EDGE = 64 * 1024  # bytes read at either end of a large file
PACKAGE = Path(__file__).parents[1]
RESULT_ROOMS = (  # the rooms whose code can change a result
    "assembly", "batches.py", "blocks", "data", "decoding", "distributed", "models", "modules", "optim", "sample",
    "scoring", "text", "training",
)  # fmt: skip


@cache
def code_digest() -> str:
    """Digest of the code that makes results. Docstrings and comments do not count: an edited one leaves runs valid."""
    return source_digest(*RESULT_ROOMS)[:16]


@cache
def source_digest(*places: str) -> str:
    """SHA-256 of the syntax trees, without docstrings, of these files and folders of the package (folders as a whole)."""
    digest = hashlib.sha256()
    for place in places:
        path = PACKAGE / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            tree = _without_docstrings(ast.parse(file.read_bytes()))
            digest.update(file.relative_to(PACKAGE).as_posix().encode() + b"\0" + ast.dump(tree).encode())
    return digest.hexdigest()


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return tree


def file_digest(path: Path) -> str:
    """Of a file's size and its first and last 64 KiB."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(EDGE))
        if size > EDGE:
            file.seek(max(EDGE, size - EDGE))
            digest.update(file.read(EDGE))
    return digest.hexdigest()


def files_digest(paths: Iterable[Path], root: Path) -> str:
    """Of names below `root`, and each file's own digest."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + file_digest(path).encode())
    return digest.hexdigest()[:16]


def folder_digest(folder: Path) -> str:
    """Of the files that stand in a folder itself, hidden ones left out."""
    return files_digest((path for path in folder.iterdir() if path.is_file() and path.name[0] != "."), folder)
