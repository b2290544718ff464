"""Choices of a row in one column, and which of them a label means."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from protoformer.data.examples.columns import ColumnReader
from protoformer.data.examples.labels import class_index, label_words, number_of
from protoformer.data.examples.values import Unreadable
from protoformer.data.sources.rows import scalar_text
from protoformer.errors import DataError

Options = tuple[list[str], list[str] | None]  # texts, and the row's own names of them ([]: not one for each)


def options_of(value: Any) -> Options | None:
    """Choices as a list of texts, as an object of the lists `text` and `label`, or as a list of such objects; None: neither."""
    labels: Any = None
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        value, labels = value["text"], value.get("label")
    elif isinstance(value, list) and value and all(isinstance(each, dict) and "text" in each for each in value):
        labels = [each.get("label") for each in value]
        value = [each["text"] for each in value]
    if not isinstance(value, list) or any(isinstance(each, list | dict | Unreadable) for each in value):
        return None
    return [scalar_text(text) or "" for text in value], _own_names(labels, len(value))


def _own_names(labels: object, count: int) -> list[str] | None:
    """The names that a row gives its choices; [] where they are not one for each."""
    if labels is None or (isinstance(labels, list) and all(label is None for label in labels)):
        return None
    if not isinstance(labels, list) or len(labels) != count or None in labels:
        return []
    names = [str(scalar_text(label)).strip() for label in labels]
    return names if len(set(names)) == count else []


def option_lists(reader: ColumnReader, column: str, names: Sequence[str]) -> tuple[list[list[str]], list[list[str]]]:
    """The choices of each row, and their names. Raises DataError for a column that holds none."""
    rows = [options_of(value) if value is not None else ([], None) for value in reader.nested(column)]
    if all(row is None for row in rows):
        kind = reader.raw.table.column(column).type
        raise DataError(f"{reader.raw.origin}: column {column!r} holds {kind}, not lists of texts")
    texts = [row[0] if row else [] for row in rows]
    wrong_length = np.asarray([not 2 <= len(row) <= len(names) for row in texts])
    empty = np.asarray([not all(text.strip() for text in row) for row in texts])
    number = f"{len(names)}" if len(names) == 2 else f"2 to {len(names)}"
    reader.bad_rows.add(column, f"not a list of {number} choices", wrong_length)
    reader.bad_rows.add(column, "an empty choice", empty & ~wrong_length)
    unnamed = np.asarray([row is not None and row[1] == [] for row in rows])
    reader.bad_rows.add(column, "labels that do not name each choice once", unnamed)
    choices = [[""] * len(names) if wrong else row for row, wrong in zip(texts, wrong_length, strict=True)]
    own_names = [
        row[1] if row and row[1] and not wrong else list(names[: len(choice)])
        for row, wrong, choice in zip(rows, wrong_length, choices, strict=True)
    ]
    return choices, own_names


def choice_labels(
    reader: ColumnReader,
    names: Sequence[Sequence[str]],
    choices: Sequence[Sequence[str]],
    all_names: Sequence[str],
    first: int,
) -> Int[ndarray, "rows"]:
    """The index of the right choice of each row (-1: hidden). Unknown labels are bad.

    A label is a name. Where not all labels are, all may be texts of their rows' choices; else each is a name, a number or a
    text.
    """
    count = len(choices)
    if reader.label not in reader.raw.table.column_names:
        return np.full(count, -1, dtype=np.int64)
    column = reader.label_column(all_names)
    words = label_words(column)
    if words is None:
        raise DataError(f"{reader.raw.origin}: column {reader.label!r} holds {column.type}, not a label")
    texts, missing = words
    rows = list(zip(texts, names, choices, strict=True))
    by_text = all(not word or list(texts_).count(word) == 1 for word, _, texts_ in rows) and not all(
        not word or word in names_ for word, names_, _ in rows
    )
    indices = np.asarray(
        [_choice(word, names_, texts_, all_names, first, by_text=by_text) for word, names_, texts_ in rows]
    )
    hidden = missing | np.asarray([number_of(word) == -1 for word in texts]) & np.isnan(indices)
    hidden = hidden if reader.role == "test" else np.zeros(count, dtype=bool)
    wrong = np.isnan(indices) & ~hidden
    is_number = np.asarray([not math.isnan(number_of(word)) for word in texts])
    outside = f"a label outside {first} to {first + len(all_names) - 1}, counted from task.rows.first_label={first}"
    reader.bad_rows.add(reader.label, "null", missing & ~hidden)
    reader.bad_rows.add(reader.label, outside, wrong & is_number & ~missing, reason="an unknown label")
    problem = f"none of the labels {list(all_names)}"
    reader.bad_rows.add(reader.label, problem, wrong & ~is_number & ~missing, reason="an unknown label")
    return np.where(np.isnan(indices) | reader.bad_rows.mask, -1, indices).astype(np.int64)


def _choice(
    word: str, names: Sequence[str], texts: Sequence[str], all_names: Sequence[str], first: int, *, by_text: bool
) -> float:
    """The index of the choice that a label means; NaN where it means none."""
    names = [str(name) for name in names]
    if not word:
        return math.nan
    if by_text:
        return list(texts).index(word)
    if word in names:
        return names.index(word)
    index = class_index(word, [str(name) for name in all_names], first)
    if index < len(texts):
        return index
    return list(texts).index(word) if math.isnan(number_of(word)) and list(texts).count(word) == 1 else math.nan
