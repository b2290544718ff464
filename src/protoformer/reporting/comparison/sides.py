"""The two sides of a comparison: run folders, and files of another system's predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protoformer.errors import UserError
from protoformer.reporting.comparison import predictions_file
from protoformer.reporting.comparison.examples import Examples, check_same, splits
from protoformer.reporting.comparison.examples import read as read_examples
from protoformer.runs import reader
from protoformer.runs.reader import Record


@dataclass(frozen=True)
class Side:
    """Runs, and files of predictions whose stems name splits: each a seed."""

    records: Sequence[Record]
    files: Sequence[Path]

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(record.task for record in self.records))

    def of_task(self, task: str) -> "Side":
        """The runs of a task; files belong to the one task that there is."""
        return Side([record for record in self.records if record.task == task], self.files)


Sides = tuple[Side, Side]


def sides_of(ours: Sequence[Path], theirs: Sequence[Path]) -> Sides:
    """Raises UserError for what is named twice, on one side or on both, unfinished runs, tasks that one side lacks, and files
    without a run."""
    if both := sorted({str(path) for path in ours if path.resolve() in {other.resolve() for other in theirs}}):
        raise UserError(f"{both[0]} is on both sides")
    for paths in (ours, theirs):
        resolved = [path.resolve() for path in paths]
        if twice := [path for number, path in enumerate(paths) if resolved[number] in resolved[:number]]:
            raise UserError(f"{twice[0]} is named twice on one side: it is one run, not two seeds")
    sides = _side(ours), _side(theirs)
    for record in (record for side in sides for record in side.records):
        if record.result is None:
            raise UserError(f"{record.folder} is not finished: the same command continues it")
    files = [file for side in sides for file in side.files]
    tasks = list(dict.fromkeys(task for side in sides for task in side.tasks))
    if not tasks:
        raise UserError(f"{files[0]}: files of predictions alone: task and metrics are those of a run, on either side")
    if all(side.tasks for side in sides) and (missing := sorted(set(sides[0].tasks) ^ set(sides[1].tasks))):
        raise UserError(f"runs of different tasks cannot be compared: {', '.join(missing)} is on one side alone")
    if files and len(tasks) > 1:
        raise UserError(f"{files[0]}: files of predictions are compared with runs of one task, not {', '.join(tasks)}")
    return sides


def _side(paths: Sequence[Path]) -> Side:
    files = [path for path in paths if not path.is_dir() and (path.is_file() or path.suffix == predictions_file.SUFFIX)]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: no such file")
        if file.suffix != predictions_file.SUFFIX:
            raise UserError(
                f"{file}: neither a run folder nor a file of predictions such as val{predictions_file.SUFFIX}"
            )
    return Side([reader.read(path) for path in paths if path not in files], files)


def splits_of(sides: Sides) -> list[str]:
    """The splits to compare: those that files name, or else those of the first run, those of dev first."""
    record = next(record for side in sides for record in side.records)
    known = splits(record)
    files = [file for side in sides for file in side.files]
    for file in files:
        if file.stem not in known:
            raise UserError(
                f"{file}: {file.stem} is no split of {record.folder}, whose splits are {', '.join(known) or 'none'}; the "
                f"name of a file is that of its split"
            )
    named = {file.stem for file in files}
    return [split for split in known if not files or split in named]


def of_split(split: str, sides: Sides) -> tuple[list[Examples], list[Examples]]:
    """The examples of the runs of each side, and behind them those of its files."""
    ours, theirs = ([read_examples(record, split) for record in side.records] for side in sides)
    runs = [*ours, *theirs]
    files = [[file for file in side.files if file.stem == split] for side in sides]
    if any(files):
        check_same(runs)
    for examples, own in zip((ours, theirs), files, strict=True):
        examples += [predictions_file.read(file, runs) for file in own]
        if not examples:
            named = next(file for each in files for file in each)
            raise UserError(f"{named}: the other side has no predictions of {split}")
    return ours, theirs
