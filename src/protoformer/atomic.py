"""Atomic writes: a file or a folder appears under its name complete, or not at all.

What is written goes under a temporary name beside the target, is flushed to the disk and then renamed. So neither a killed
process nor a power cut leaves half of it under the final name, and a reader never sees it half written. Everything in the
package that replaces a file does so by these functions.

The temporary name says which process writes there: `remove_abandoned` removes what dead ones have left. A full disk is a
DiskFullError that names the file.
"""

import contextlib
import errno
import math
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from protoformer import processes
from protoformer.errors import DiskFullError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, a quota, a limit on the size of files
PROBE = 64 * 1024  # bytes
OLD = 24 * 3600.0  # seconds after which what an unknown process was writing is abandoned
TEMPORARY = re.compile(r"\..+\.([0-9a-f]*-\d+-\d*)\.[0-9a-f]{8}\.part")  # see _temporary

_unfinished: set[Path] = set()  # temporary files and folders that this process writes now


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; missing parent folders are made."""
    with replace_atomically(path, needed=len(text.encode())) as tmp:
        tmp.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replace_atomically(path: Path, needed: int | None = None) -> Iterator[Path]:
    """A temporary name beside `path`; the file written there replaces `path` when the block ends.

    If the block raises, the temporary file is removed and whatever is at `path` stays. `needed` are its bytes, for the message
    of a full disk.
    """
    tmp = _temporary(path)
    try:
        with named_if_full(path, needed, output=tmp):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield tmp
            _fsync(tmp)
            os.replace(tmp, path)
    finally:
        tmp.unlink(missing_ok=True)
        _unfinished.discard(tmp)
    _fsync(path.parent)  # the new name is on the disk only when its folder is


def replace_file(file: Path, path: Path) -> None:
    """Let a complete file beside `path` replace it."""
    _fsync(file)
    os.replace(file, path)
    _fsync(path.parent)


def write_unsynced(path: Path, content: bytes) -> None:
    """Write a file for another process to read, complete or not at all; any thread may call it.

    It need not outlive a power cut, so it is not flushed to the disk, on which checkpoints may be under way.
    """
    unfinished = path.with_name(f".{path.name}-{threading.get_ident()}")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


@contextlib.contextmanager
def create_folder_atomically(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`; it becomes `path` when the block ends.

    If another process has made `path` in the meantime, its folder is kept and this one removed. If the block raises, the
    temporary folder is removed.
    """
    tmp = _temporary(path)
    try:
        with named_if_full(path, output=tmp):
            tmp.mkdir(parents=True)  # with the umask's permissions; those of tempfile's folders are the owner's alone
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
        _unfinished.discard(tmp)
    _fsync(path.parent)


def remove_unfinished() -> None:
    """Remove what this process is writing: it ends now, without leaving the blocks above."""
    for tmp in list(_unfinished):
        _remove(tmp)


def remove_abandoned(folder: Path, owned: bool = False) -> list[Path]:
    """Remove what dead processes were writing in a folder and below it; returns what was removed.

    In a folder that is `owned` by this process alone, what an unknown process was writing goes as well.
    """
    removed = [tmp for tmp in folder.rglob(".*.part") if is_abandoned(tmp, -math.inf if owned else OLD)]
    for tmp in removed:
        _remove(tmp)
    return removed


def is_abandoned(tmp: Path, unknown_for: float = OLD) -> bool:
    """Whether a file or folder is one that a dead process was writing. Of an unknown process (one of another machine) it is
    when it has not been written to for so many seconds."""
    match = TEMPORARY.fullmatch(tmp.name)
    lives = processes.lives(match[1]) if match else None
    if lives is not None:
        return not lives
    try:
        return tmp.name.endswith(".part") and time.time() - tmp.stat().st_mtime >= unknown_for
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def named_if_full(path: Path, needed: int | None = None, output: Path | None = None) -> Iterator[None]:
    """Raise DiskFullError, which names `path`, when the block fails because the disk is full.

    Compiled code (torch, tokenizers) raises errors of its own, so after any exception a page is written beside what the block
    leaves as `output`: if that fails too, the disk is full.
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:  # of any kind: compiled code raises its own
        is_full = error.errno in FULL if isinstance(error, OSError) else output is not None and _is_full(output)
        if not is_full:
            raise
        raise DiskFullError(full_disk(path, needed)) from error


def full_disk(path: Path, needed: int | None = None) -> str:
    """The message of a full disk."""
    existing = next((folder for folder in path.absolute().parents if folder.is_dir()), Path("/"))
    free = shutil.disk_usage(existing).free
    needs = "" if needed is None else f"{_size(needed)} needed, "
    return f"{path}: no space left ({needs}{_size(free)} free); make room, and the same command continues"


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"


def _is_full(output: Path) -> bool:
    probe = output / ".probe" if output.is_dir() else output
    try:
        with probe.open("ab") as file:
            file.write(bytes(PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno in FULL
    return False


def _remove(tmp: Path) -> None:
    if tmp.is_dir():
        shutil.rmtree(tmp, ignore_errors=True)
    else:
        tmp.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """Hidden, on the same file system, and of no other process or thread."""
    tmp = path.with_name(f".{path.name}.{processes.name()}.{secrets.token_hex(4)}.part")
    _unfinished.add(tmp)
    return tmp


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
