"""What runs and caches leave on the disk that nobody needs; `protoformer clean` removes it. Results are never among it."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from protoformer.atomic import is_abandoned
from protoformer.errors import RunFolderError
from protoformer.runs.folder import RunFolder, remove_empty
from protoformer.runs.lock import RunLock, is_in_use

NEVER_BEGAN = "a run that never began"
UNFINISHED_WRITE = "left by a process that died while writing"
OPTIMIZER = "state of the optimizer of a finished run"
EVALUATION = "evaluated batches of a finished run"
SNAPSHOTS = "checkpoints of a finished run that were averaged"
UNUSED_CACHE = "cache that was not read for a while"
DAY = 24 * 3600.0


@dataclass(frozen=True)
class Leftover:
    """A file or folder that can go, and why. `run` is the run folder that it belongs to (None: no run's)."""

    path: Path
    why: str
    size: int
    run: Path | None = None


def leftovers(outputs: Path) -> Iterator[Leftover]:
    """Those of the runs at or below a folder, in order of path; of runs in use none."""
    for top, folders, files in os.walk(outputs):
        folders.sort()
        here = Path(top)
        names = [name for name in (*folders, *files) if name.startswith(".") and name.endswith(".part")]
        if "config.yaml" in files:
            folders[:] = []
            if not is_in_use(here):
                yield from _of_run(here)
            continue
        for name in names:
            if is_abandoned(here / name):
                yield Leftover(here / name, UNFINISHED_WRITE, size_of(here / name))
        folders[:] = [name for name in folders if name not in names]


def _of_run(path: Path) -> Iterator[Leftover]:
    run = RunFolder.open(path)
    if not run.has_started:
        yield Leftover(path, NEVER_BEGAN, size_of(path), path)
        return
    for part in sorted(path.rglob(".*.part")):
        if is_abandoned(part):
            yield Leftover(part, UNFINISHED_WRITE, size_of(part), path)
    if run.state != "finished":
        return
    if run.evaluation.is_dir():
        yield Leftover(run.evaluation, EVALUATION, size_of(run.evaluation), path)
    if run.earlier.is_dir():
        yield Leftover(run.earlier, OPTIMIZER, size_of(run.earlier), path)
    if _keeps_optimizer(run):
        return
    others = run.best_checkpoint.exists() or run.averaged_checkpoint.exists()
    if others and run.last_checkpoint.exists():
        yield Leftover(run.last_checkpoint, OPTIMIZER, size_of(run.last_checkpoint), path)
    if others:
        for shards in sorted((run.checkpoints / "shards").glob("last-*")):
            yield Leftover(shards, OPTIMIZER, size_of(shards), path)
    snapshots = run.checkpoints / "snapshots"
    if snapshots.is_dir() and run.averaged_checkpoint.exists():
        yield Leftover(snapshots, SNAPSHOTS, size_of(snapshots), path)


def remove_states(run: RunFolder) -> None:
    """Remove what a finished run would have removed itself, had it not been killed after its result."""
    for leftover in _of_run(run.path):
        if leftover.why in (OPTIMIZER, EVALUATION):
            remove(leftover)


def _keeps_optimizer(run: RunFolder) -> bool:
    try:
        return bool(run.read_config().get("trainer", {}).get("keep_optimizer"))
    except RunFolderError:
        return True  # of a config that cannot be read nothing is known


def unused_caches(cache: Path, days: float) -> Iterator[Leftover]:
    """Entries of the cache, each a folder or file of its own, that were neither read nor written for so many days."""
    for kind in sorted(cache.iterdir()) if cache.is_dir() else ():
        for entry in sorted(kind.iterdir()) if kind.is_dir() else ():
            if time.time() - _last_used(entry) > days * DAY:
                yield Leftover(entry, UNUSED_CACHE, size_of(entry))


def remove(leftover: Leftover) -> bool:
    """Remove it, under its run's lock; returns whether it is gone (a run that has started meanwhile keeps its own)."""
    if leftover.run is None:
        return _remove(leftover.path)
    try:
        with RunLock(leftover.run):
            if leftover.why == NEVER_BEGAN:
                is_removed = RunFolder(leftover.run, leftover.run.name).remove_if_not_started()
            else:
                is_removed = _remove(leftover.path)
    except RunFolderError:
        return False
    if leftover.why == NEVER_BEGAN:
        remove_empty(leftover.run, leftover.run.parents[min(3, len(leftover.run.parents) - 1)])
    return is_removed


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = [path] if not path.is_dir() else [Path(top) / name for top, _, names in os.walk(path) for name in names]
    return sum(file.lstat().st_size for file in files if file.exists() or file.is_symlink())


def _last_used(path: Path) -> float:
    stats = [each.stat() for each in (path, *path.rglob("*"))]
    return max(max(stat.st_mtime, stat.st_atime if each else 0.0) for each, stat in enumerate(stats))


def _remove(path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    return not path.exists()
