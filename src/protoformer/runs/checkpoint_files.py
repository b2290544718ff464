"""Whether checkpoint files are whole, and which one a run is continued from.

A checkpoint is a zip archive (`torch.save`), which holds a CRC-32 of each tensor and of everything else in it. That is the
checksum: a truncated file has no directory of its entries, a changed byte does not fit its CRC.
"""

import logging
import os
import zipfile
from pathlib import Path

from protoformer.errors import RunFolderError
from protoformer.runs.folder import RunFolder

log = logging.getLogger(__name__)


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint file; None: it is whole. Reads all of it, without unpickling."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, ValueError) as error:
        return str(error) or type(error).__name__
    return None if name is None else f"the checksum of {name} is wrong"


def choose_whole_checkpoint(folder: RunFolder) -> None:
    """Let `last.ckpt` be the newest checkpoint that is whole. A damaged one is reported, and its place taken by the one before.

    Raises RunFolderError where none is whole, or `best.ckpt` is damaged, which the run will need at its end.
    """
    last = folder.last_checkpoint
    if not last.exists() and not folder.earlier_checkpoints:
        return
    problem = damage(last) if last.exists() else "it is missing"
    if problem is not None:
        for earlier in folder.earlier_checkpoints:
            if damage(earlier) is None:
                log.warning("%s is damaged (%s): continuing from the one before", last, problem)
                os.replace(earlier, last)  # both are on this disk, and each is whole or known to be damaged
                break
        else:
            raise RunFolderError(
                f"{last} is damaged ({problem}), and there is no earlier one that is whole; force=true starts a new attempt"
            )
    best = folder.best_checkpoint
    if best.exists() and (problem := damage(best)) is not None:
        raise RunFolderError(
            f"{best} is damaged ({problem}), and the run is known by its weights; force=true starts a new attempt"
        )
