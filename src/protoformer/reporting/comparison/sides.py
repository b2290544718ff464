"""The two sides of a comparison: run folders, and files of another system's predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from protoformer.errors import UserError
from protoformer.reporting.comparison import predictions_file
from protoformer.reporting.comparison.examples import Examples, check_same, splits
from protoformer.reporting.comparison.examples import read as read_examples
from protoformer.runs import reader
from protoformer.runs.reader import Record


@dataclass(frozen=True)
class Side:
    """Runs, and files of predictions, each with its task, whose stems name splits: each a seed."""

    records: Sequence[Record]
    files: Mapping[Path, str]

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys([*(record.task for record in self.records), *self.files.values()]))

    def of_task(self, task: str) -> "Side":
        return Side(
            [record for record in self.records if record.task == task],
            {file: own for file, own in self.files.items() if own == task},
        )


Sides = tuple[Side, Side]


def sides_of(ours: Sequence[Path], theirs: Sequence[Path]) -> Sides:
    """Raises UserError for what is named twice, on one side or on both, unfinished runs, tasks that one side lacks, and files
    without a run, or of none of several tasks."""
    if both := sorted({str(path) for path in ours if path.resolve() in {other.resolve() for other in theirs}}):
        raise UserError(f"{both[0]} is on both sides")
    for paths in (ours, theirs):
        resolved = [path.resolve() for path in paths]
        if twice := [path for number, path in enumerate(paths) if resolved[number] in resolved[:number]]:
            raise UserError(f"{twice[0]} is named twice on one side: it is one run, not two seeds")
    sides = _side(ours), _side(theirs)
    records = [record for side in sides for record in side.records]
    for record in records:
        if record.result is None:
            raise UserError(f"{record.folder} is not finished: the same command continues it")
    for side in sides:
        _check_attempts(side.records)
    files = [file for side in sides for file in side.files]
    if not records:
        raise UserError(f"{files[0]}: files of predictions alone: task and metrics are those of a run, on either side")
    tasks = _Tasks(records)
    first, second = (replace(side, files={file: tasks.of_file(file) for file in side.files}) for side in sides)
    if missing := sorted(set(first.tasks) ^ set(second.tasks)):
        raise UserError(f"runs of different tasks cannot be compared: {', '.join(missing)} is on one side alone")
    return first, second


def _check_attempts(records: Sequence[Record]) -> None:
    """Raises UserError for two attempts, or two copies, of one run on one side."""
    seen: dict[tuple[str, str, str], Path] = {}
    for record in records:
        run = (record.model, record.task, str((record.result or {})["run_id"]))
        if run in seen:
            raise UserError(f"{seen[run]} and {record.folder} are attempts of one run, {run[2]}, not two seeds")
        seen[run] = record.folder


class _Tasks:
    """The tasks of runs, with the examples of a run of each."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._record: dict[str, Record] = {}
        for record in records:
            self._record.setdefault(record.task, record)
        self._examples: dict[tuple[str, str], Examples] = {}

    def of_file(self, file: Path) -> str:
        """The task whose labels and ids a file has; where there is one task, that one. Raises UserError where it has those of
        none, or of several."""
        if len(self._record) == 1:
            return next(iter(self._record))
        reasons: dict[str, str] = {}
        for task, record in self._record.items():
            try:
                if (task, file.stem) not in self._examples:
                    self._examples[task, file.stem] = read_examples(record, file.stem)
                predictions_file.read(file, [self._examples[task, file.stem]])
            except UserError as error:
                reasons[task] = str(error).removeprefix(str(file)).lstrip(":, ")
        fitting = [task for task in self._record if task not in reasons]
        if not fitting:
            why = "; ".join(f"{task}: {reason}" for task, reason in reasons.items())
            raise UserError(f"{file} fits none of the tasks ({why})")
        if len(fitting) > 1:
            raise UserError(
                f"{file} fits the examples of {' and of '.join(fitting)}: a label on each line tells them apart"
            )
        return fitting[0]


def _side(paths: Sequence[Path]) -> Side:
    files = [path for path in paths if not path.is_dir() and (path.is_file() or path.suffix == predictions_file.SUFFIX)]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: no such file")
        if file.suffix != predictions_file.SUFFIX:
            raise UserError(
                f"{file}: neither a run folder nor a file of predictions such as val{predictions_file.SUFFIX}"
            )
    return Side([reader.read(path) for path in paths if path not in files], dict.fromkeys(files, ""))


def splits_of(sides: Sides) -> tuple[list[str], dict[str, Path]]:
    """The splits to compare: those that files name, or else those that all runs predicted, those of dev first; and the others,
    each with a run that lacks it. Raises UserError where runs have no split in common, and for files of other splits."""
    records = [record for side in sides for record in side.records]
    known = {record.folder: splits(record) for record in records}
    every = list(dict.fromkeys(split for each in known.values() for split in each))
    missing = {split: folder for split in every for folder, own in reversed(known.items()) if split not in own}
    shared = [split for split in every if split not in missing]
    if not shared and every:
        folder = missing[every[0]]
        raise UserError(f"{folder} did not predict {', '.join(each for each in every if each not in known[folder])}")
    files = [file for side in sides for file in side.files]
    for file in files:
        if file.stem not in shared:
            raise UserError(
                f"{file}: {file.stem} is no split of {records[0].folder}, whose splits are {', '.join(shared) or 'none'}; "
                f"the name of a file is that of its split"
            )
    if not files:
        return shared, missing
    named = {file.stem for file in files}
    return [split for split in shared if split in named], {}


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
