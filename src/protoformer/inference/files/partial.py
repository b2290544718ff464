"""An output file that appears when it is whole; until then its beginning lies beside it, for the same command to continue."""

import glob
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from protoformer.atomic import replace_file
from protoformer.errors import ConfigurationError, UserError


@dataclass(frozen=True)
class PartialFile:
    """An open file, and the whole lines that an earlier call has left in it."""

    file: TextIO
    earlier: list[str]


@contextmanager
def partial_file(path: Path, command: str | None) -> Iterator[PartialFile]:
    """The beginning of `path`, which replaces it when the block ends.

    `command` says all that decides its lines: of an interrupted call (Ctrl-C, or killed) with the same command they are kept.
    None: nothing is continued. After another error nothing is left, and an earlier file at `path` stays.
    Raises ConfigurationError where `path` is a folder.
    """
    if path.is_dir():
        raise ConfigurationError(f"--out {path}: a folder; name a file in it")
    if path.exists() and not path.is_file():  # a pipe or a device
        with path.open("w", encoding="utf-8", newline="") as file:
            yield PartialFile(file, [])
        return
    digest = hashlib.sha256((command or f"process {os.getpid()}").encode("utf-8", "backslashreplace")).hexdigest()[:12]
    tmp = path.with_name(f".{path.name}.{digest}.partial")
    earlier = _whole_lines(tmp) if command is not None and tmp.exists() else []
    for other in sorted(path.parent.glob(f".{glob.escape(path.name)}.*.partial")):
        if other != tmp:
            print(f"{other}: of another model, file or options, and not continued", file=sys.stderr)
    try:
        with tmp.open("a" if earlier else "w", encoding="utf-8", newline="") as file:
            yield PartialFile(file, earlier)
            file.flush()
            os.fsync(file.fileno())
        replace_file(tmp, path)
    except UserError:
        tmp.unlink(missing_ok=True)
        raise


def _whole_lines(path: Path) -> list[str]:
    """The whole lines of a file; a last one that is not is cut off."""
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return whole.decode("utf-8").split("\n")[:-1]
