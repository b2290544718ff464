"""Files that W&B wrote for the earlier parts of a run: the rows that they hold, mended where a kill has cut them short.

A `.wandb` file is a log in LevelDB's format: blocks of 32 KiB of chunks, each with a checksum, a length and a type; a record
is one chunk, or several. W&B's process writes whole blocks, so what a kill leaves nearly always ends within a record.
`wandb sync` fails there, and uploads nothing of the files after it.
"""

import logging
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)
FILE_HEADER = 7  # bytes
BLOCK = 2**15
CHUNK = struct.Struct("<IHB")  # checksum, length, type
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4  # types of chunks


def rows_of_earlier_parts(folder: Path) -> int:
    """The number of the last row (`_step`) that W&B's files in `folder` hold, 0 for none.

    An unfinished record at the end of a file is cut off. Folders of parts that were killed before W&B wrote anything are
    removed.
    """
    last = 0
    for file in sorted(folder.glob("*run-*/*.wandb")):
        has_run, rows = _mend(file)
        last = max(last, rows)
        if not has_run:
            shutil.rmtree(file.parent, ignore_errors=True)
    return last


def _mend(file: Path) -> tuple[bool, int]:
    """Cut an unfinished record off; whether the file names its run, and the number of its last row."""
    from wandb.proto import wandb_internal_pb2  # slow, and only needed with this tracker

    has_run, last, whole = False, 0, 0
    with file.open("r+b") as content:
        for record, end in records(content):
            parsed = wandb_internal_pb2.Record.FromString(record)  # type: ignore[attr-defined]  # made at run time
            whole = end
            has_run |= parsed.HasField("run")
            if parsed.HasField("history"):
                last = max(last, parsed.history.step.num)
        if 0 < whole < file.stat().st_size:
            content.truncate(whole)
    return has_run, last


def records(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Each whole record, and the offset of its end; up to the first that is unfinished or damaged."""
    file.seek(FILE_HEADER)
    content = b""
    while True:
        left = BLOCK - file.tell() % BLOCK
        if left < CHUNK.size:  # too small for a chunk: padding
            file.seek(left, 1)
        head = file.read(CHUNK.size)
        if len(head) < CHUNK.size:
            return
        checksum, length, kind = CHUNK.unpack(head)
        payload = file.read(length)
        if len(payload) < length or checksum != zlib.crc32(head[-1:] + payload):
            return
        content = payload if kind in (WHOLE, FIRST) else content + payload
        if kind in (WHOLE, LAST):
            yield content, file.tell()
