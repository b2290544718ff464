"""A corpus: the texts of one or more data sets as documents, in order (arXiv 1810.04805, section 3.1: "it is critical to use
a document-level corpus rather than a shuffled sentence-level corpus")."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from protoformer.data.sources.source import RawStream, Source
from protoformer.errors import ConfigurationError, DataError


@dataclass(frozen=True)
class Part:
    """One data set of a corpus. Where a row is only a sentence (bookcorpus), `rows_per_document` of them make a document;
    a source whose rows are documents knows better."""

    dataset: str
    subset: str | None = None
    revision: str | None = None
    text: str = "text"
    rows_per_document: int = 1


WORDS = {"dataset", "subset", "revision", "text"}  # keys of a Part that are text


class Documents:
    """The documents of a corpus, read anew by every `iter`; `skipped` counts the null and empty rows that were met."""

    def __init__(self, streams: Sequence[tuple[RawStream, Part]]) -> None:
        self.streams = [
            (stream, 1 if stream.documents else part.rows_per_document, part.text) for stream, part in streams
        ]
        self.origin = " + ".join(stream.origin for stream, _ in streams)
        settings = [(stream.digest, together, column) for stream, together, column in self.streams]
        self.digest = hashlib.sha256(repr(settings).encode()).hexdigest()
        self.skipped = 0

    def __iter__(self) -> Iterator[str]:
        self.skipped = 0
        for stream, together, column in self.streams:
            rows: list[str] = []
            for text in self._texts(stream, column):
                rows.append(text)
                if len(rows) == together:
                    yield "\n".join(rows)
                    rows = []
            if rows:
                yield "\n".join(rows)

    def _texts(self, stream: RawStream, name: str) -> Iterator[str]:
        for batch in stream.batches():
            column = batch.column(0)
            if not _is_text(column.type):
                raise DataError(f"{stream.origin}: column {name!r} holds {column.type}, not text")
            for text in column.to_pylist():
                if text and not text.isspace():
                    yield text
                else:
                    self.skipped += 1


@dataclass(frozen=True)
class Corpus:
    """The data sets that a model is pretrained on: `parts` are the keyword arguments of a Part each."""

    parts: Sequence[Mapping[str, Any]]

    def __post_init__(self) -> None:
        for part in self.parts:
            unknown = set(map(str, part)) - set(Part.__dataclass_fields__)
            if unknown or "dataset" not in part:
                what = f"no key {', '.join(sorted(unknown))}" if unknown else "no dataset"
                raise ConfigurationError(f"task.rows.parts: {what}; a part has {', '.join(Part.__dataclass_fields__)}")
            together = Part(**part).rows_per_document
            if type(together) is not int or together < 1:
                raise ConfigurationError(
                    f"task.rows.parts: rows_per_document={together}; expected a whole number, at least 1"
                )
            for name in WORDS & set(part):
                if not isinstance(part[name], str | None):
                    raise ConfigurationError(f"task.rows.parts: {name}={part[name]} is not text; quote it")
        if not self.parts:
            raise ConfigurationError("task.rows.parts: a corpus has at least one part")

    def documents(self, source: Source, split: str) -> Documents:
        """Of all parts. Raises DataError where one is not to be had.

        Two parts that turn out to be the same rows (a source of files knows no data sets) are read once.
        """
        streams: dict[tuple[str, str], tuple[RawStream, Part]] = {}
        for part in _parts(self.parts):
            stream = source.stream(part.dataset, part.subset, split, part.revision, [part.text])
            streams.setdefault((stream.origin, stream.digest), (stream, part))
        return Documents(list(streams.values()))


def _parts(parts: Iterable[Mapping[str, Any]]) -> list[Part]:
    return [Part(**{str(key): value for key, value in part.items()}) for part in parts]


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
