"""What a task leaves to the data: its splits (folds, held-out rows, `auto`), and the labels of `task.rows.labels=auto`.

Everything is decided by the data and by task.split_seed alone, so a run that is continued, and every rank, decides the same.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

from protoformer.assembly.initial_weights import InitialWeights
from protoformer.assembly.instantiate import instantiate
from protoformer.data.examples.columns import check_columns
from protoformer.data.examples.labels import label_words, number_of
from protoformer.data.selection import SplitSelection
from protoformer.data.sources.local import LocalSource
from protoformer.data.sources.parallel import ParallelSource
from protoformer.data.sources.source import DatasetRef, Source
from protoformer.errors import AbsentSplitError, ConfigurationError, DataError
from protoformer.runs.own_files import AUTO, SPLIT_NAMES, own_files

log = logging.getLogger(__name__)
MAX_LABELS = 1000
HIDDEN = "-1"  # the label of a row whose label is not published


def with_own_data(config: dict[str, Any], source: Source, initial: InitialWeights) -> dict[str, Any]:
    """The config with the splits and labels of the data in it; the same config where a task leaves nothing to them.

    Raises DataError for a column that holds no labels, ConfigurationError for folds of a part of a split.
    """
    task = config["task"]
    reader: DatasetRef = instantiate(config, "task.rows")
    splits = _splits(task, source, reader)
    config = {**config, "task": {**task, "splits": splits}} if splits != task["splits"] else config
    labels, has_head = task["rows"].get("labels"), "labels" in task["module"]  # prompts need no head for their labels
    if labels != AUTO and (labels is None or not has_head or task["module"]["labels"] is not None):
        return config
    if labels == AUTO:
        labels = (
            _labels_of_weights(initial) if splits["train"] is None else _labels_of_data(splits["train"], source, reader)
        )
    rows, module = {**task["rows"], "labels": labels}, dict(task["module"])
    if has_head:
        module["labels"] = labels
    return {**config, "task": {**config["task"], "rows": rows, "module": module}}


def _splits(task: Mapping[str, Any], source: Source, reader: DatasetRef) -> dict[str, Any]:
    splits = dict(task["splits"])
    if AUTO not in splits.values() and task.get("folds") is None:
        return splits
    if splits["train"] is not None:
        splits["train"] = _training_split(splits["train"], source, reader)
    if splits["test"] == AUTO:
        splits["test"] = _existing("test", source, reader)
    if task.get("folds") is not None:
        name = _whole(splits["train"], "task.folds")
        drawn = f"fold {task['fold']}/{task['folds']}, seed {task['split_seed']}"
        splits |= {"train": f"{name}[all but {drawn}]", "validation": f"{name}[{drawn}]"}
        _log_drawn(splits, source, reader, f"fold {task['fold']} of {task['folds']} is validated on")
        return splits
    if splits["validation"] != AUTO:
        return splits
    splits["validation"] = _existing("validation", source, reader)
    if splits["validation"] is None and splits["train"] is not None:
        name = _whole(splits["train"], "task.held_out")
        drawn = f"{100 * task['held_out']:g}% held out, seed {task['split_seed']}"
        splits |= {"train": f"{name}[all but {drawn}]", "validation": f"{name}[{drawn}]"}
        _log_drawn(splits, source, reader, "no validation file: rows are held out of the training file to validate on")
    return splits


def _training_split(name: str, source: Source, reader: DatasetRef) -> str:
    """The name of the training file: `train`, another of its names, or that of the only file, unless it is one to test on."""
    if name != "train" or not isinstance(source, LocalSource) or source.root.is_file():
        return name
    if (existing := _existing("train", source, reader)) is not None:
        return existing
    if not (only := own_files(source.root, {"train": AUTO})):
        return name
    is_evaluated = any(_existing(role, source, reader) is not None for role in ("validation", "test"))
    return name if is_evaluated else only[0].name.partition(".")[0]


def _existing(role: str, source: Source, reader: DatasetRef) -> str | None:
    """The first of a role's names that a source has a split of."""
    return next((name for name in SPLIT_NAMES[role] if _has(source, reader, name)), None)


def _has(source: Source, reader: DatasetRef, name: str) -> bool:
    try:
        if isinstance(source, LocalSource):
            source.files(reader, name)
        elif isinstance(source, ParallelSource):
            source.files(name)
        else:
            source.load(reader, name)
    except AbsentSplitError:
        return False
    except DataError:
        if isinstance(source, LocalSource | ParallelSource):
            raise
        return (
            False  # the hub does not say which split is absent; where nothing can be read, the training split says so
        )
    return True


def _whole(name: str | None, key: str) -> str:
    if name is None:
        raise ConfigurationError(f"{key} divides the training split, and task.splits.train is null")
    if "[" in name or "+" in name:
        raise ConfigurationError(
            f"{key} divides a whole split, and task.splits.train={name} is a part; name task.splits.validation instead"
        )
    return name


def _log_drawn(splits: Mapping[str, Any], source: Source, reader: DatasetRef, what: str) -> None:
    """One line: how many rows train and validate, and how they were drawn."""
    train, validation = (SplitSelection.parse(splits[role]).load(source, reader) for role in ("train", "validation"))
    how = (
        f"rows of one {reader.grouped_by} stay together"
        if reader.grouped_by
        else f"stratified by {reader.stratified_by}"
        if reader.stratified_by
        else "not stratified"
    )
    log.info(
        "%s: %s: %d rows train, %d validate (%s; task.split_seed draws others)",
        validation.origin, what, train.table.num_rows, validation.table.num_rows, how,
    )  # fmt: skip


def _labels_of_weights(initial: InitialWeights) -> list[str]:
    """The labels of the run that a test-only task tests."""
    labels = initial.run.read_config()["task"]["rows"].get("labels") if initial.run is not None else None
    if not isinstance(labels, list):
        raise ConfigurationError(
            "task.rows.labels=auto are those of the training data, and there is none: name them, as in "
            "task.rows.labels=[negative,positive]"
        )
    return labels


def _labels_of_data(split: str, source: Source, reader: Any) -> list[str]:
    """The labels in the files of the training split (in all of their rows, whatever part trains), numbers in order of size."""
    counts: Counter[str] = Counter()
    origins, unreadable = [], []
    for name in SplitSelection.parse(split).splits:
        raw = source.load(reader, name)
        check_columns(raw, [reader.label], reader)
        words = label_words(raw.table.column(reader.label))
        if words is None:
            raise DataError(
                f"{raw.origin}: column {reader.label!r} holds {raw.table.schema.field(reader.label).type}, not a label"
            )
        counts.update(text for text, missing in zip(*words, strict=True) if text and not missing)
        origins.append(raw.origin)
        if raw.broken:
            row, problem = min(raw.broken.items())
            unreadable.append(f"{raw.location(row)}: {problem} ({len(raw.broken)} rows cannot be read)")
    names = [name for name in counts if name != HIDDEN]
    where = f"{' + '.join(origins)}: column {reader.label!r}"
    rows = sum(counts.values())
    if len(names) < 2:
        why = f"; {unreadable[0]}" if unreadable else ""
        raise DataError(
            f"{where} holds {f'one label ({names[0]})' if names else 'no label'}; a classifier needs two{why}"
        )
    if len(names) > MAX_LABELS or (len(names) > 20 and len(names) > rows / 2):
        raise DataError(
            f"{where} holds {len(names)} different values in {rows} rows, which are no labels; task=regress learns numbers, "
            "task.rows.label=<column> names another column"
        )
    names.sort(key=_order)
    shown = ", ".join(f"{' '.join(name.split())} ({counts[name]})" for name in names[:20]) + (
        ", ..." if len(names) > 20 else ""
    )
    log.info("%s: %d labels: %s", where, len(names), shown)
    return names


def _order(name: str) -> tuple[bool, float, str]:
    number = number_of(name)
    return (number != number, 0.0 if number != number else number, name)
