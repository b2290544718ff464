"""Digests: of the code that makes results, of weight folders, of data files. Cheap enough to take at every start.

A file is read whole, once: its digest is kept under its device, inode, size and times of change, so that a file that was not
touched is not read again, and one that was changed anywhere is.
"""

import contextlib
import glob
import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from protoformer.atomic import write_text
from protoformer.config.annotations.signatures import source_file

CACHE_VARIABLE = "PROTOFORMER_CACHE"
KEPT_FROM = 1 << 20  # bytes; the digest of a smaller file is not worth keeping
SETTLED = 2.0  # seconds; a file that changed less long ago may change again within the same tick of the clock
BLOCK = 1 << 20  # bytes that are read at once
DIGEST_LENGTH = 64  # characters
PACKAGE = Path(__file__).parents[1]
RESULT_PACKAGES = (  # whose code can change a result
    "assembly", "batches.py", "blocks", "data", "decoding", "distributed", "models", "modules", "optim", "sample",
    "scoring", "text", "training",
)  # fmt: skip

TOKEN = re.compile(
    r"""(?P<string>[rRbBfFuU]{0,2}(?:\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    |(?P<comment>\#[^\n]*)
    |(?P<open>[(\[{])
    |(?P<close>[)\]}])
    |(?P<newline>\n[ \t]*)
    |(?P<other>\\\n|[^\s"'\#()\[\]{}\\]+|[ \t]+|.)""",
    re.VERBOSE | re.DOTALL,
)
LINE_END = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|$)")
BLANK_LINES = re.compile(r"(?:[ \t]*\n)+")


def code_digest(config: Mapping[str, object] | None = None) -> str:
    """Digest of the code that makes results. An edited docstring or comment leaves it as it is, and so finished runs valid.

    Code from outside of the package that a run's config names counts as well.
    """
    package = source_digest(*RESULT_PACKAGES)[:16]
    outside = outside_digest(source_file(target) for target in targets(config or {}))
    return hashlib.sha256(f"{package}{outside}".encode()).hexdigest()[:16] if outside else package


def targets(node: object) -> Iterator[str]:
    """Each `_target_` of a config."""
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from targets(value)


def outside_digest(files: Iterable[Path]) -> str:
    """Digest of the Python files beside (and including) these, without docstrings; empty where all are the package's own."""
    folders = {file.resolve().parent for file in files if not file.resolve().is_relative_to(PACKAGE.resolve())}
    sources = [
        split_docstrings(file.read_text(encoding="utf-8"))[0]
        for f in sorted(folders)
        for file in sorted(f.glob("*.py"))
    ]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest() if sources else ""


@cache
def source_digest(*paths: str) -> str:
    """SHA-256 of files and folders of the package (a folder with all below it), without docstrings, comments, blank lines."""
    digest = hashlib.sha256()
    for path in (PACKAGE / name for name in paths):
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            code, _ = split_docstrings(file.read_text(encoding="utf-8"))
            digest.update(file.relative_to(PACKAGE).as_posix().encode() + b"\0" + code.encode() + b"\0")
    return digest.hexdigest()


def split_docstrings(source: str) -> tuple[str, list[str]]:
    """Python code without docstrings, comments and blank lines; and the docstrings.

    Any string that is a statement of its own counts as a docstring. Lexical, because `ast.parse` and `ast.dump` need over
    a second for the package (this 0.1 s), and because a syntax tree is written differently by other versions of Python.
    """
    code: list[str] = []
    docstrings: list[str] = []
    depth = 0  # of open brackets
    statement_begins = True
    for token in TOKEN.finditer(source):
        kind, text = token.lastgroup, token.group()
        if kind == "comment":
            continue
        if kind == "string" and statement_begins and LINE_END.match(source, token.end()):
            docstrings.append(text)
            continue
        code.append(text)
        if kind == "newline":
            statement_begins = depth == 0
        elif not text.isspace():
            statement_begins = False
            depth += (kind == "open") - (kind == "close")
    return BLANK_LINES.sub("\n", "".join(code)).strip(), docstrings


def file_digest(path: Path) -> str:
    """SHA-256 of a file's size and content."""
    status = path.stat()
    kept = _kept_digest(status)
    if kept is not None:
        with contextlib.suppress(OSError, ValueError):
            known = kept.read_text(encoding="ascii")
            if len(known) == DIGEST_LENGTH:
                return known
    digest = hashlib.sha256(str(status.st_size).encode())
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    if kept is not None and time.time() - max(status.st_mtime, status.st_ctime) > SETTLED:
        with contextlib.suppress(OSError):  # kept to be quicker the next time: a full or read-only disk does not matter
            write_text(kept, digest.hexdigest())
    return digest.hexdigest()


def _kept_digest(status: os.stat_result) -> Path | None:
    """Where the digest of a file in this state is kept; None for a small file."""
    if status.st_size < KEPT_FROM:
        return None
    state = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    cache = os.environ.get(CACHE_VARIABLE) or os.path.join(os.environ.get("HOME", "."), ".cache", "protoformer")
    return Path(cache) / "digests" / "-".join(f"{number:x}" for number in state)


def matching_files(pattern: str) -> list[Path]:
    """The files that a name or a glob means, `**` included, in order.

    A part of the path that exists as it stands is no pattern.
    """
    literal, pattern_path = "", ""
    for part in Path(pattern).expanduser().parts:
        literal = os.path.join(literal, part)
        pattern_path = os.path.join(pattern_path, glob.escape(part) if os.path.lexists(literal) else part)
    return [Path(path) for path in sorted(glob.glob(pattern_path, recursive=True)) if os.path.isfile(path)]


def files_digest(paths: Iterable[Path], root: Path) -> str:
    """Digest of each file's name below `root` and its own digest."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + file_digest(path).encode())
    return digest.hexdigest()[:16]


def folder_digest(folder: Path) -> str:
    """Digest of the files directly in a folder, without hidden ones."""
    return files_digest((path for path in folder.iterdir() if path.is_file() and path.name[0] != "."), folder)


def checkpoints_digest(folder: Path) -> str:
    """Digest of the weights that a run is known by; `last.ckpt`, which a finished run may drop, counts where it is alone."""
    paths = [path for path in folder.iterdir() if path.is_file() and path.name[0] != "."]
    chosen = [path for path in paths if path.name != "last.ckpt"]
    names = {path.stem for path in chosen or paths}
    shards = [path for path in (folder / "shards").glob("*/*") if path.parent.name.rpartition("-")[0] in names]
    return files_digest([*(chosen or paths), *shards], folder)
