"""Text files as a source, for pretraining."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from protoformer.data.sources.readers import SUPPORTED, FileTable, is_supported, read_batches, read_table
from protoformer.data.sources.rows import position, selected_columns
from protoformer.data.sources.source import DatasetRef, RawStream, RawTable, files_digest, files_stream
from protoformer.data.sources.text_files import base_suffix, check_encoding, open_text, problem_of
from protoformer.errors import DataError
from protoformer.runs.digests import file_digest, matching_files

SHOWN = 4  # names of files in a message
VALIDATION = "validation"  # the split that the files of `validation` are


class FilesSource:
    """Text in files of any name: txt, or parquet, jsonl, json, csv, tsv with a column `text`.

    `files` and `validation` are names or globs, `**` included; `encoding` is that of text files (None: UTF-8, or what a byte
    order mark says). Each row is a document; there are no labels. Every data set is these files, and so is every split but
    `validation`, which is that of `validation` alone.
    """

    def __init__(
        self, files: Sequence[str] | str, validation: Sequence[str] | str | None = None, encoding: str | None = None
    ) -> None:
        self.names = _named(files)
        self.paths = _matching(files, "source.files")
        self.validation_paths = None if validation is None else _matching(validation, "source.validation")
        self.encoding = check_encoding(encoding)
        for path in self.validation_paths or ():
            if same := next((other for other in self.paths if _same_content(path, other)), None):
                what = "is in source.files and in" if path == same else f"of source.files has the content of {path} of"
                raise DataError(f"{same} {what} source.validation: what is validated on is not trained on")

    @property
    def validation_split(self) -> str | None:
        """The split to validate on, whatever a task says; None: there is no text but that to train on."""
        return None if self.validation_paths is None else VALIDATION

    def load(self, ref: DatasetRef, split: str) -> RawTable:
        raise DataError(
            f"source=files holds a corpus only, not {ref.dataset}/{ref.subset or 'default'}, split {split}: "
            "use source=hub, source=local or source=sample"
        )

    def stream(self, ref: DatasetRef, split: str, columns: Sequence[str] | None = None) -> RawStream:
        if self.validation_paths is not None and split == VALIDATION:
            paths, origin = self.validation_paths, "source.validation"
        else:
            paths, origin = self.paths, self.names
        return files_stream(paths, origin, ["text"], self.encoding, documents=True)

    def texts(self) -> RawTable:
        """The files as rows of one column `text`: a text file is one row, as it stands; rows of others are one each.

        Raises DataError for a file that cannot be read, and names the line that is not UTF-8.
        """
        files = [self._texts(path) for path in self.paths]
        broken: dict[int, str] = {}
        first = 0
        for file in files:
            broken |= {first + row: problem for row, problem in file.broken.items()}
            first += file.table.num_rows
        table = pa.concat_tables([file.table for file in files])
        return RawTable(table, self.names, files_digest(self.paths, f"{self.encoding} whole"), files, broken=broken)

    def _texts(self, path: Path) -> FileTable:
        if base_suffix(path) == ".txt":
            with open_text(path, self.encoding) as file:
                text = file.read()
            if problem := problem_of(text):
                raise DataError(f"{path}, line {_line_of_problem(text)}: {problem}")
            return FileTable(path, pa.table({"text": [text]}), [1], {})
        file_table = read_table(path, self.encoding)
        names = selected_columns(["text"], file_table.table.column_names, str(path))
        texts = file_table.table.select(names).cast(pa.schema({"text": pa.string()}))
        return FileTable(path, texts, file_table.lines, file_table.broken)

    def corpus(self) -> Iterator[str] | None:
        return None


def row_texts(path: Path) -> Iterator[str]:
    """The column `text` of a file of rows, some at a time. Raises DataError for a row that cannot be read, or has no text."""
    first = 0
    for each in read_batches(path, ["text"]):
        texts = each.batch.column("text").to_pylist()
        for row, text in enumerate(texts):
            if row in each.broken or not isinstance(text, str):
                raise DataError(f"{path}, {position(row, each.lines, first)}: {each.broken.get(row, 'no text')}")
            yield text
        first += len(texts)


def _named(patterns: Sequence[str] | str) -> str:
    """Files and globs as one name for messages: of many the first ones, and how many there are."""
    if isinstance(patterns, str):
        return patterns
    more = len(patterns) - SHOWN
    return ", ".join(patterns) if more <= 0 else f"{', '.join(patterns[:SHOWN])} and {more} more"


def _line_of_problem(text: str) -> int:
    return next(number for number, line in enumerate(text.split("\n"), start=1) if problem_of(line))


def _same_content(path: Path, other: Path) -> bool:
    """Whether two files are one (by two names, or as links), or one the copy of the other."""
    if path.samefile(other):
        return True
    return path.stat().st_size == other.stat().st_size and file_digest(path) == file_digest(other)


def _matching(patterns: Sequence[str] | str, key: str) -> list[Path]:
    """The files that names and globs mean, each once, whatever links or ways lead to it."""
    paths: list[Path] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matches = matching_files(pattern)
        if not matches:
            raise DataError(f"{key}={pattern}: no such file")
        paths += [path for path in matches if not any(path.samefile(other) for other in paths)]
    if not paths:
        raise DataError(f"{key}=[] names no file")
    if wrong := [path for path in paths if not is_supported(path)]:
        raise DataError(f"{wrong[0]}: not a text file; supported: {SUPPORTED}")
    return paths
