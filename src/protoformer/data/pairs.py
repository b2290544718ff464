"""Rows of a data set of texts in two languages -> pairs; and parallel text in files of one language each."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy import ndarray

from protoformer.data.rows import Role
from protoformer.data.sources import RawStream, RawTable
from protoformer.errors import AbsentSplitError, ConfigurationError, DataError

LINES = ".*"  # ends the name of files that are one for each language


@dataclass(frozen=True)
class PairExamples:
    """Texts and their translations; `row` is each one's number in the file."""

    sources: list[str]
    targets: list[str]
    row: ndarray
    skipped: int


@dataclass(frozen=True)
class Pairs:
    """A data set with a text in each of several languages, by the languages' names: each a column, or a field of one column
    (`column`, such as WMT's `translation`); rows that have no such column have the languages as columns.

    Raises ConfigurationError for a language that is to be translated into itself.
    """

    dataset: str
    source: str
    target: str
    column: str | None = None
    subset: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise ConfigurationError(f"task.rows: source and target are both {self.source!r}; name two languages")

    def read(self, raw: RawTable, role: Role, on_bad_row: Literal["error", "skip"] = "error") -> PairExamples:
        """Raises DataError for a language that is not there, zero rows, or (unless skipped) an empty line."""
        texts = [self._texts(raw.table, name, raw.origin) for name in (self.source, self.target)]
        if not texts[0]:
            raise DataError(f"{raw.origin}: zero rows")
        bad = np.zeros(len(texts[0]), dtype=bool)
        for name, column in zip((self.source, self.target), texts, strict=True):
            empty = np.asarray([not (text and text.strip()) for text in column])
            if empty.any() and on_bad_row == "error":
                more = f" ({int(empty.sum())} rows in all)" if empty.sum() > 1 else ""
                first = int(np.flatnonzero(empty)[0])
                place = f"{raw.origin}, row {first}, language {name!r}"
                if raw.origin.endswith(LINES):  # a file a language
                    place = f"{raw.origin.removesuffix(LINES)}.{name}, line {first + 1}"
                raise DataError(f"{place}: an empty line{more}; task.data.on_bad_row=skip leaves such pairs out")
            bad |= empty
        keep = np.flatnonzero(~bad)
        if not len(keep):
            raise DataError(f"{raw.origin}: every one of its {len(bad)} rows is unusable")
        sources, targets = ([str(column[i]) for i in keep] for column in texts)
        return PairExamples(sources, targets, keep, len(bad) - len(keep))

    def texts(self, stream: RawStream) -> Iterator[str]:
        """Every text of both languages, to learn a vocabulary from."""
        for batch in stream.batches():
            for name in (self.source, self.target):
                yield from (text for text in self._texts(pa.Table.from_batches([batch]), name, stream.origin) if text)

    def _texts(self, table: pa.Table, language: str, origin: str) -> list[Any]:
        held: Any = table
        there: Sequence[str] = table.column_names
        if self.column in table.column_names and pa.types.is_struct(table.column(self.column).type):
            held = table.column(self.column).combine_chunks()
            there = [field.name for field in held.type]
        if language not in there:
            raise DataError(f"{origin}: no language {language!r}; it has {', '.join(there)}")
        column = held.field(language) if isinstance(held, pa.StructArray) else table.column(language)
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise DataError(f"{origin}: {language!r} holds {column.type}, not text")
        return column.to_pylist()


class ParallelSource:
    """Parallel text of one's own: `<root>/<split>.<language>`, a sentence a line. Whatever data set is asked for, these
    files are what there is; a split's rows have a column for each language."""

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise DataError(f"source.root={root}: no such folder")

    def files(self, split: str) -> dict[str, Path]:
        """The files of a split, by language. Raises AbsentSplitError where there are none."""
        found = {path.suffix[1:]: path for path in sorted(self.root.glob(f"{split}.*")) if path.stem == split}
        if len(found) < 2:
            there = ", ".join(sorted(path.name for path in self.root.iterdir() if path.is_file())) or "no file"
            raise AbsentSplitError(f"{self.root}: no files {split}.<language>, a language each; the folder has {there}")
        return found

    def load(self, dataset: str, subset: str | None, split: str, revision: str | None = None) -> RawTable:
        """Raises DataError for files of unequal length, naming both counts, and for what is not UTF-8."""
        files = self.files(split)
        lines = {language: _lines(path) for language, path in files.items()}
        (first, expected), *others = ((files[language], len(found)) for language, found in lines.items())
        for path, count in others:
            if count != expected:
                raise DataError(
                    f"{first} has {expected} lines and {path} has {count}: line i of one is to be the translation of line i "
                    "of the other"
                )
        digest = hashlib.sha256()
        for language, path in files.items():
            digest.update(f"{language}\0".encode() + path.read_bytes())
        return RawTable(pa.table(lines), f"{self.root}/{split}{LINES}", digest.hexdigest())

    def stream(
        self,
        dataset: str,
        subset: str | None,
        split: str,
        revision: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> RawStream:
        raw = self.load(dataset, subset, split, revision)
        return RawStream(lambda: iter(raw.table.to_batches(max_chunksize=10_000)), raw.origin, raw.digest)

    def corpus(self) -> Iterator[str] | None:
        return None


def _lines(path: Path) -> list[str]:
    """A file's lines; they end at line feeds alone, since a text may hold other breaks."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, byte {error.start}: not UTF-8 ({error.reason}); convert the file") from None
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
