"""Atomic writes: a file or a folder appears under its name complete, or not at all.

What is written goes under a temporary name beside the target, is flushed to the disk and then renamed. So neither a killed
process nor a power cut leaves half of it under the final name, and a reader never sees it half written. Everything in the
package that replaces a file does so by these functions.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; missing parent folders are made."""
    with replace_atomically(path) as tmp:
        tmp.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; the file written there replaces `path` when the block ends.

    If the block raises, the temporary file is removed and whatever is at `path` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = _temporary(path)
    try:
        yield tmp
        _fsync(tmp)
        os.replace(tmp, path)
    finally:
        tmp.unlink(missing_ok=True)
    _fsync(path.parent)  # the new name is on the disk only when its folder is


@contextlib.contextmanager
def create_folder_atomically(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`; it becomes `path` when the block ends.

    If another process has made `path` in the meantime, its folder is kept and this one removed. If the block raises, the
    temporary folder is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = _temporary(path)
    tmp.mkdir()  # with the umask's permissions; those of tempfile's folders are the owner's alone
    try:
        yield tmp
        for path_in_tmp in (*tmp.rglob("*"), tmp):
            _fsync(path_in_tmp)
        try:
            os.replace(tmp, path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    _fsync(path.parent)


def _temporary(path: Path) -> Path:
    """Hidden, on the same file system, and of no other process or thread."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
