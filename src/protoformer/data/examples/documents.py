"""A corpus: the texts of one or more data sets as documents, in order.

"It is critical to use a document-level corpus rather than a shuffled sentence-level corpus" (arXiv 1810.04805, section 3.1).
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa

from protoformer.data.examples.columns import NESTED, OnBadRow
from protoformer.data.examples.values import as_text, without_json
from protoformer.data.sources.rows import position
from protoformer.data.sources.source import DatasetRef, RawStream, Source
from protoformer.errors import ConfigurationError, DataError


@dataclass(frozen=True)
class CorpusPart(DatasetRef):
    """One data set of a corpus. `text` is its text column.

    Where a row is only a sentence (bookcorpus), `rows_per_document` of them make a document; a source of documents ignores it.
    """

    text: str = "text"
    rows_per_document: int = 1


PART_KEYS = tuple(field.name for field in fields(CorpusPart))
TEXT_KEYS = {"dataset", "subset", "revision", "text"}


class Documents:
    """The documents of a corpus, read anew by every `iter`; `skipped` counts the null and empty rows of the last one.

    Rows that cannot be read are an error, or with `on_bad_row="skip"` left out and counted as well.
    """

    def __init__(self, streams: Sequence[tuple[RawStream, CorpusPart]], on_bad_row: OnBadRow = "error") -> None:
        self.on_bad_row = on_bad_row
        self.streams = [
            (stream, 1 if stream.documents else part.rows_per_document, part.text) for stream, part in streams
        ]
        self.origin = " + ".join(stream.origin for stream, _ in streams)
        settings = [(stream.digest, rows_per_document, column) for stream, rows_per_document, column in self.streams]
        if on_bad_row == "skip":  # other documents, where there are bad rows
            settings.append(("skip", 0, ""))
        self.digest = hashlib.sha256(repr(settings).encode()).hexdigest()
        self.skipped = 0

    def __iter__(self) -> Iterator[str]:
        self.skipped = 0
        for stream, rows_per_document, column in self.streams:
            rows: list[str] = []
            for text in self._texts(stream, column):
                rows.append(text)
                if len(rows) == rows_per_document:
                    yield "\n".join(rows)
                    rows = []
            if rows:
                yield "\n".join(rows)

    def _texts(self, stream: RawStream, name: str) -> Iterator[str]:
        row = 0
        for batch in stream.batches():
            self._check(stream.broken)
            column, nested = without_json(pa.chunked_array([batch.column(0)]), batch.schema.field(0))
            for index in nested.nonzero()[0][:1]:
                self._check([f"{_position(stream, int(index), row)}, column {name!r}: {NESTED}"])
            converted = as_text(column)
            if converted is None:
                raise DataError(f"{stream.origin}: column {name!r} holds {column.type}, not text")
            text_column, invalid = converted
            for index in invalid.nonzero()[0][:1]:
                self._check([f"{_position(stream, int(index), row)}, column {name!r}: not UTF-8"])
            row += batch.num_rows
            for text in text_column.to_pylist():
                if text and not text.isspace():
                    yield text
                else:
                    self.skipped += 1

    def _check(self, broken: Sequence[str]) -> None:
        if broken and self.on_bad_row == "error":
            raise DataError(f"{broken[0]}; task.data.on_bad_row=skip leaves such rows out")


def _position(stream: RawStream, index: int, first: int) -> str:
    """Where row `index` of the batch that was read last stands; it begins with row `first` of the stream."""
    return stream.where(index) if stream.where else f"{stream.origin}, {position(index, first=first)}"


@dataclass(frozen=True)
class Corpus:
    """The data sets that a model is pretrained on; each of `parts` holds the arguments of a CorpusPart.

    Raises ConfigurationError for an unknown key, a missing data set, or a value of another type.
    """

    parts: Sequence[Mapping[str, Any]]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ConfigurationError("task.rows.parts: a corpus has at least one part")
        for part in self.parts:
            _check_part(part)

    def documents(self, source: Source, split: str, on_bad_row: OnBadRow = "error") -> Documents:
        """The documents of all parts. Raises DataError where a part cannot be read.

        Two parts that turn out to be the same rows (a source of files knows no data sets) are read once.
        """
        streams: dict[tuple[str, str], tuple[RawStream, CorpusPart]] = {}
        for keys in self.parts:
            part = CorpusPart(**{str(key): value for key, value in keys.items()})
            stream = source.stream(part, split, [part.text])
            streams.setdefault((stream.origin, stream.digest), (stream, part))
        return Documents(list(streams.values()), on_bad_row)


def _check_part(part: Mapping[str, object]) -> None:
    unknown = set(map(str, part)) - set(PART_KEYS)
    if unknown or "dataset" not in part:
        problem = f"no key {', '.join(sorted(unknown))}" if unknown else "no dataset"
        raise ConfigurationError(f"task.rows.parts: {problem}; a part has {', '.join(PART_KEYS)}")
    rows_per_document = part.get("rows_per_document", 1)
    if type(rows_per_document) is not int or rows_per_document < 1:
        raise ConfigurationError(
            f"task.rows.parts: rows_per_document={rows_per_document}; expected a whole number, at least 1"
        )
    for name in TEXT_KEYS & set(part):
        if not isinstance(part[name], str | None):
            raise ConfigurationError(f"task.rows.parts: {name}={part[name]} is not text; quote it")
