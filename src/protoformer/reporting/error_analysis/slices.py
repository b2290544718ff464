"""Slices: groups of a split's examples by a property of their texts, or by a column of the data set.

length      words of all texts, in quarters of the split
overlap     of two texts: the distinct words that they share, over those of the one with fewer (overlap coefficient); word
            overlap is what models of inference are known to rely on (McCoy et al. 2019, arXiv 1902.01007)
negation    which text has a negation, in English: no, not, n't, never, none, nobody, nothing, nowhere, neither, nor, cannot
            (Gururangan et al. 2018, arXiv 1803.02324)
a column    its values; of more than MOST_VALUES numbers, which a CSV holds as text, quarters of the split, of other values the
            most frequent ones; rows without a value are a slice of their own
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

Row = Mapping[str, Any]  # a line of predictions
OF_TEXTS = ("length", "overlap", "negation")
MOST_VALUES = 12  # of a column
LONGEST_VALUE = 60  # characters of one that are shown
NO_VALUE = "(null)"
WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")  # don't is one word
NEGATIONS = frozenset(["no", "not", "never", "none", "nobody", "nothing", "nowhere", "neither", "nor", "cannot"])
OVERLAP_EDGES = (0.25, 0.5, 0.75, 1.0)


class Slice(NamedTuple):
    """Examples that share the value of a property."""

    value: str
    members: Bool[ndarray, "examples"]


def slices_by(name: str, rows: Sequence[Row]) -> list[Slice]:
    """The slices of a property or column that hold an example, in order; empty where the rows do not have it."""
    if name in OF_TEXTS:
        texts = [_texts(row) for row in rows]
        if not all(texts):
            return []
        if name == "length":
            return _quarters(np.array([sum(len(words(text)) for text in row.values()) for row in texts]), "words")
        if name == "negation":
            return _by_value([_negated(row) for row in texts])
        return _by_overlap(texts) if all(len(row) == 2 for row in texts) else []
    cells = [_column(row, name) for row in rows]
    return _of_column([value for (value,) in cells]) if all(cells) else []


def column_names(views: Mapping[str, Any]) -> list[str]:
    """The columns among the slices of a config, which are recorded for each example."""
    return [name for name in views["slices"] if name not in OF_TEXTS]


def words(text: str) -> list[str]:
    """Its words in lower case, without punctuation."""
    return [word.replace("\u2019", "'") for word in WORD.findall(text.lower())]


def _texts(row: Row) -> dict[str, str]:
    return {name: text for name, text in (row.get("texts") or {}).items() if isinstance(text, str)}


def _column(row: Row, name: str) -> tuple[Any, ...]:
    """The value of a column, alone; nothing where the row lacks it."""
    return next(
        ((values[name],) for key in ("columns", "texts") if name in (values := row.get(key) or {})),
        (),
    )


def _negated(texts: Mapping[str, str]) -> str:
    having = [name for name, text in texts.items() if any(w in NEGATIONS or w.endswith("n't") for w in words(text))]
    if not having:
        return "none"
    return "present" if len(texts) == 1 else f"in {having[0]} alone" if len(having) == 1 else "in both"


def overlap_coefficient(one: str, other: str) -> float:
    """Shared distinct words over those of the text with fewer; 0 where one has none."""
    first, second = set(words(one)), set(words(other))
    return len(first & second) / max(1, min(len(first), len(second)))


def _by_overlap(texts: Sequence[Mapping[str, str]]) -> list[Slice]:
    overlaps = np.array([overlap_coefficient(*row.values()) for row in texts])
    slices, low = [], 0.0
    for edge in OVERLAP_EDGES:
        slices.append(Slice(f"{100 * low:.0f} to {100 * edge:.0f} %", (overlaps >= low) & (overlaps < edge)))
        low = edge
    return [each for each in (*slices, Slice("all words", overlaps == 1)) if each.members.any()]


def _quarters(values: Float[ndarray, "examples"], unit: str = "") -> list[Slice]:
    """About four groups of equal size; equal values stay together."""
    edges = np.unique(np.quantile(values, (0.25, 0.5, 0.75, 1.0), method="inverted_cdf"))
    index = np.searchsorted(edges, values)
    slices = []
    for number in np.unique(index):
        members = index == number
        low, high = (f"{each:.6g}" for each in (values[members].min(), values[members].max()))
        slices.append(Slice(f"{low} {unit}".strip() if low == high else f"{low} to {high} {unit}".strip(), members))
    return slices


def _of_column(values: Sequence[Any]) -> list[Slice]:
    missing = np.array([_is_missing(value) for value in values])
    numbers = [_number(value) for value, is_missing in zip(values, missing, strict=True) if not is_missing]
    if None in numbers or len(set(numbers)) <= MOST_VALUES:
        return _by_value([NO_VALUE if _is_missing(value) else str(value) for value in values])
    having = np.flatnonzero(~missing)
    slices = [Slice(value, _at(having[members], len(values))) for value, members in _quarters(np.array(numbers))]
    return slices + ([Slice(NO_VALUE, missing)] if missing.any() else [])


def _is_missing(value: Any) -> bool:
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and not value.strip())
    )


def _number(value: Any) -> float | None:
    """A finite number, also as text; None for any other value."""
    if (
        isinstance(value, bool) or not isinstance(value, int | float | str) or "_" in str(value)
    ):  # Python reads 1_0 as 10
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _at(positions: ndarray, count: int) -> Bool[ndarray, "examples"]:
    members = np.zeros(count, dtype=bool)
    members[positions] = True
    return members


def _short(value: str) -> str:
    return value if len(value) <= LONGEST_VALUE else value[: LONGEST_VALUE - 1] + "\u2026"


def _by_value(values: Sequence[str]) -> list[Slice]:
    """The most frequent values in order of the alphabet, then all others together."""
    counts = Counter(values)
    kept = sorted(value for value, _ in counts.most_common(MOST_VALUES))
    column = np.array(values, dtype=object)
    slices = [Slice(_short(value), column == value) for value in kept]
    others = len(counts) - len(kept)
    return slices + (
        [Slice(f"{others} other values", ~np.any([each.members for each in slices], axis=0))] if others else []
    )
