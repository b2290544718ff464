"""Rows as running text, and what is counted in it: words, lines, bytes and characters of the text as it was published."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from protoformer.data.examples.columns import BadRows, OnBadRow, check_columns, nullable_texts
from protoformer.data.sources.source import DatasetRef, RawTable
from protoformer.errors import ConfigurationError, DataError
from protoformer.text.words.detokenizers import InvertibleDetokenizer


@dataclass(frozen=True)
class TextCounts:
    """Counts of original texts. Words are separated by white space; `original_tokens` are the units of the data set's own
    perplexities: words, and where the data set counts them the ends of lines."""

    words: int
    original_tokens: int
    bytes: int
    characters: int


@dataclass(frozen=True)
class RunningTexts:
    """Texts as a model reads them, and the counts of the originals."""

    texts: Sequence[str]
    counts: TextCounts
    stats: Mapping[str, int]


@dataclass(frozen=True)
class RunningTextReader(DatasetRef):
    """Reader of texts. `column` holds them; its rows are joined by `join` into one text, or stand each for itself (null).

    `lines`: a row is a line, or several (a whole file); its last line end is no part of it. `line_ends_count`: the ends of
    lines are units of the data set's perplexities, the token `<eos>` of its vocabulary. `last_bytes` are the bytes of the
    joined text that are the test set, where the data set is not divided (null: all). `detokenize` are the rules of the
    de-tokeniser, in whose words the model reads the text (`text.words.detokenizers`).
    """

    column: str = "text"
    join: str | None = None
    lines: bool = False
    line_ends_count: bool = False
    last_bytes: int | None = None
    detokenize: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.last_bytes is not None and (self.join is None or self.last_bytes < 1):
            raise ConfigurationError("task.rows.last_bytes: at least 1, of rows that task.rows.join makes one text")
        InvertibleDetokenizer(self.detokenize)  # raises for a rule that there is not

    def read(self, raw: RawTable, on_bad_row: OnBadRow = "error") -> RunningTexts:
        """Raises DataError for a missing column, zero rows, no text at all, and (unless skipped) rows without text."""
        check_columns(raw, [self.column], self)
        bad_rows = BadRows(raw, on_bad_row)
        values = nullable_texts(raw, self.column, bad_rows)
        if not any(values):
            raise DataError(f"{raw.origin}: there is no token to predict: column {self.column!r} is empty")
        bad_rows.add(self.column, "null", np.asarray([value is None for value in values]))
        if self.join is None:
            bad_rows.add(self.column, "empty text", np.asarray([value == "" for value in values]))
        rows = [values[number] or "" for number in bad_rows.usable()]
        if self.lines:
            rows = [line for row in rows for line in row.removesuffix("\n").split("\n")]
            rows = rows if self.join is not None else [line for line in rows if line.strip()]
        originals = rows if self.join is None else [self._end_of(self.join.join(rows))]
        words = sum(len(text.split()) for text in originals)
        line_ends = sum(text.count("\n") + 1 for text in originals) if self.line_ends_count else 0
        counts = TextCounts(
            words=words,
            original_tokens=words + line_ends,
            bytes=sum(len(text.encode()) for text in originals),
            characters=sum(map(len, originals)),
        )
        stats = {**asdict(counts), "rows": len(values), "skipped": int(bad_rows.mask.sum())}
        if not self.detokenize:
            return RunningTexts(originals, counts, stats)
        detokenizer = InvertibleDetokenizer(self.detokenize)
        texts = [detokenizer(text) for text in originals]
        undone = detokenizer.undone
        return RunningTexts(texts, counts, {**stats, "joined": undone.changed, "ambiguous": undone.ambiguous})

    def _end_of(self, text: str) -> str:
        """The last bytes of a text, from the first whole character on."""
        if self.last_bytes is None:
            return text
        return text.encode()[-self.last_bytes :].decode(errors="ignore")
