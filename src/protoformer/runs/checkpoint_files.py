"""Whether checkpoint files are whole, and which one a run is continued from.

A checkpoint is a zip archive (`torch.save`), which holds a CRC-32 of each tensor and of everything else in it. That is the
checksum: a truncated file has no directory of its entries, a changed byte does not fit its CRC. Of a sharded checkpoint the
archive names a folder beside it, whose `checksums.json` has the CRC-32 of each file.
"""

import json
import logging
import pickletools
import zipfile
import zlib
from pathlib import Path

from protoformer.atomic import replace_file
from protoformer.errors import RunFolderError
from protoformer.runs.folder import RunFolder

log = logging.getLogger(__name__)


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint file; None: it is whole. Reads all of it, without unpickling.

    Raises PermissionError where it may not be read: nothing is known of it then.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            name = archive.testzip()
            if name is None and (shards := _names_shards(archive)):
                return _damaged_shard(path, shards)
    except PermissionError:
        raise
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, ValueError) as error:
        return str(error) or type(error).__name__
    return None if name is None else f"the checksum of {name} is wrong"


def _names_shards(archive: zipfile.ZipFile) -> set[str]:
    """Of the file of a sharded checkpoint the strings in it, the name of its folder among them; of another one nothing. The
    pickle is read as a list of operations, and not carried out."""
    (pickled,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    strings = {argument for _, argument, _ in pickletools.genops(archive.read(pickled)) if isinstance(argument, str)}
    return strings if "sharded_tensors" in strings else set()


def _damaged_shard(path: Path, names: set[str]) -> str | None:
    folders = [each for parent in (path.parent, path.parents[1]) for each in (parent / "shards").glob("*")]
    folder = next((each for each in folders if each.name in names), None)
    if folder is None:
        return "its folder of shards is missing"
    for name, crc in json.loads((folder / "checksums.json").read_text(encoding="utf-8")).items():
        if not (folder / name).is_file():
            return f"{folder.name}/{name} is missing"
        actual = 0
        with (folder / name).open("rb") as file:
            while chunk := file.read(2**20):
                actual = zlib.crc32(chunk, actual)
        if actual != crc:
            return f"the checksum of {folder.name}/{name} is wrong"
    return None


def choose_whole_checkpoint(folder: RunFolder) -> None:
    """Let `last.ckpt` be the newest checkpoint that is whole. A damaged one is reported, and its place taken by the one before.

    Raises RunFolderError where none is whole, where a file has the name of their folder, and where `best.ckpt` is damaged,
    which the run will need at its end.
    """
    last = folder.last_checkpoint
    if folder.checkpoints.exists() and not folder.checkpoints.is_dir():
        raise RunFolderError(f"{folder.checkpoints} is a file, where the run needs a folder: move it away")
    if not last.exists() and not folder.earlier_checkpoints:
        return
    problem = damage(last) if last.exists() else "it is missing"
    if problem is not None:
        for earlier in folder.earlier_checkpoints:
            if damage(earlier) is None:
                log.warning("%s is damaged (%s): continuing from the one before", last, problem)
                replace_file(earlier, last)
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
