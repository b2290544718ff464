"""Digests: of the code that makes results, of weight folders, of data files. Cheap enough to take at every start."""

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

EDGE = 64 * 1024  # bytes read at either end of a large file
PRESENTATION = (
    "cli.py",
    "views/",
    *(f"runtime/{name}.py" for name in ("card", "failures", "listing", "published", "report", "submission")),
    *(f"runtime/{name}.py" for name in ("suggest", "table")),
)


@cache
def code_digest() -> str:
    """Of all the package's sources but those that only present results."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not name.startswith(PRESENTATION):
            digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


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
