"""Labels as files hold them: names, numbers, true and false, as text or as numbers of any type."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float
from numpy import ndarray

from protoformer.data.examples.values import as_text, plain
from protoformer.data.sources.rows import scalar_text

TRUTH = {"true": True, "false": False, "yes": True, "no": False}
TRUTH_NUMBERS = {1.0: True, 0.0: False}
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Labels:
    """Labels as numbers; the rows that have none, those whose label is -1, and those that are wrong, by problem."""

    values: Float[ndarray, "rows"]
    missing: Bool[ndarray, "rows"]
    hidden: Bool[ndarray, "rows"]
    problems: Mapping[str, Bool[ndarray, "rows"]] = field(default_factory=dict)


def column_of_numbers(column: pa.ChunkedArray) -> Labels | None:
    """Numbers of a regression; None for a column that can hold none. -1 hides a label where no other number is negative."""
    values, missing, unknown = _numbers(column)
    if values is None:
        return None
    hidden = (values == -1) & (values[~missing] >= -1).all() & ~((values < 0) & (values > -1)).any()
    problems = {"a label that is no number": unknown | (~np.isfinite(values) & ~missing)}
    return Labels(values, missing, hidden, {**problems, "a hidden label (-1)": hidden})


def column_of_classes(column: pa.ChunkedArray, names: Sequence[str], first: int) -> Labels | None:
    """Class indices from 0; None for a column that can hold no label.

    A label is one of `names`, or else a number from `first` on (where names are numbers, a number is a name), or else true
    or false: of two classes the second or the first, unless the names say which is which.
    """
    words = label_words(column)
    if words is None:
        return None
    texts, missing = words
    distinct = {text: class_index(text, names, first) for text in set(texts)}
    values = np.asarray([distinct[text] for text in texts], dtype=np.float64)
    hidden = np.asarray([number_of(text) == -1 for text in texts]) & (values != values)
    wrong = np.isnan(values) & ~missing
    is_number = np.asarray([not math.isnan(number_of(text)) for text in texts])
    problems = {
        f"a label outside {first} to {first + len(names) - 1}": wrong & is_number,
        f"none of the labels {list(names)}": wrong & ~is_number,
    }
    return Labels(values, missing, hidden, problems)


def with_class_names(column: pa.ChunkedArray, schema: pa.Schema, name: str, names: Sequence[str]) -> pa.ChunkedArray:
    """The numbers of classes that `datasets` names in the file (`ClassLabel`) as words, where one of these is one of `names`
    with another number.

    So words in another order, or beside others, keep their meaning. Any other column stays as it is.
    """
    numbers = plain(column)
    classes = _class_names(schema, name)
    ours = {str(each).casefold(): (index, str(each)) for index, each in enumerate(names)}
    theirs = [ours.get(each.casefold(), (-1, each)) for each in classes]
    moved = any(word.casefold() in ours and index != number for number, (index, word) in enumerate(theirs))
    if not pa.types.is_integer(numbers.type) or not moved:
        return column
    words = [
        theirs[number][1] if number is not None and 0 <= number < len(theirs) else scalar_text(number)
        for number in numbers.to_pylist()
    ]
    return pa.chunked_array([pa.array(words, pa.large_string())])


def _class_names(schema: pa.Schema, name: str) -> list[str]:
    """The names of a column's classes that `datasets` wrote into the file; [] where it wrote none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(each) for each in features[name]["names"]]
    except (KeyError, TypeError, ValueError):
        return []


def label_words(column: pa.ChunkedArray) -> tuple[list[str], Bool[ndarray, "rows"]] | None:
    """Labels as words without spaces around them, and the rows without one; None for a column of lists or structs."""
    column = plain(column)
    words = as_text(column)
    if words is None:
        return None
    texts = ["" if text is None else text.strip() for text in words[0].to_pylist()]
    return texts, np.asarray([not text for text in texts], dtype=bool) & ~words[1]


def class_index(text: str, names: Sequence[str], first: int) -> float:
    """The index of a label; NaN where it is none of `names`. Case counts only where names differ in nothing else."""
    names = [str(name) for name in names]
    if text in names:
        return names.index(text)
    folded = [name.casefold() for name in names]
    if folded.count(text.casefold()) == 1:
        return folded.index(text.casefold())
    number = number_of(text)
    if not math.isnan(number):
        numbers = [number_of(name) for name in names]
        if not all(math.isnan(each) for each in numbers):
            return numbers.index(number) if number in numbers else math.nan
        index = number - first
        return index if index.is_integer() and 0 <= index < len(names) else math.nan
    truth = TRUTH.get(text.lower())
    if truth is None or len(names) != 2:
        return math.nan
    meanings = [TRUTH.get(name.lower(), TRUTH_NUMBERS.get(number_of(name))) for name in names]
    if truth in meanings:
        return meanings.index(truth)
    return math.nan if any(meaning is not None for meaning in meanings) else float(truth)


def number_of(text: str) -> float:
    """A number as files write it; NaN for any other text."""
    return float(text) if NUMBER.fullmatch(text) else math.nan


def _numbers(
    column: pa.ChunkedArray,
) -> tuple[Float[ndarray, "rows"] | None, Bool[ndarray, "rows"], Bool[ndarray, "rows"]]:
    """Numbers (None: no column of numbers), the rows without one, and the rows whose text is none."""
    column = plain(column)
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        missing = np.asarray(pc.is_null(column))
        return np.asarray(column.cast(pa.float64()).fill_null(0.0)), missing, np.zeros(len(column), dtype=bool)
    words = label_words(column)
    if words is None:
        nothing = np.zeros(len(column), dtype=bool)
        return None, nothing, nothing
    texts, missing = words
    values = np.asarray([number_of(text) for text in texts])
    return np.where(missing, 0.0, values), missing, np.isnan(values) & ~missing
