"""Parallel text as a source: one file for each language and split, one sentence a line."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from protoformer.data.sources.source import DatasetRef, RawStream, RawTable, table_stream
from protoformer.data.sources.text_files import (
    COMPRESSED,
    READ_ERRORS,
    check_encoding,
    open_text,
    problem_of,
)
from protoformer.errors import AbsentSplitError, DataError
from protoformer.runs.digests import file_digest

ANY_LANGUAGE = ".*"  # ends the origin of a split with one file for each language


class ParallelSource:
    """Parallel text in files `<root>/<split>.<language>`, one sentence a line; a column for each language.

    Every data set is these files. They may be compressed; `encoding` is theirs (None: UTF-8, or what a byte order mark says).
    """

    def __init__(self, root: str, encoding: str | None = None) -> None:
        self.root, self.encoding = Path(root).expanduser(), check_encoding(encoding)
        if not self.root.is_dir():
            raise DataError(f"source.root={root}: no such folder")

    def files(self, split: str) -> dict[str, Path]:
        """The files of a split, by language. Raises AbsentSplitError where there are none."""
        paths: dict[str, Path] = {}
        for path in sorted(self.root.iterdir()):
            if path.is_file() and path.name.startswith(f"{split}.") and "." not in base_name(path, split):
                language = base_name(path, split)
                if language in paths:
                    raise DataError(f"{path}: {paths[language].name} is the same text; keep one")
                paths[language] = path
        if len(paths) < 2:
            names = ", ".join(sorted(path.name for path in self.root.iterdir() if path.is_file())) or "no file"
            raise AbsentSplitError(f"{self.root}: no files {split}.<language>, a language each; the folder has {names}")
        return paths

    def load(self, ref: DatasetRef, split: str) -> RawTable:
        """Raises DataError for files of unequal length, naming both counts."""
        files = self.files(split)
        lines = {language: self._lines(path) for language, path in files.items()}
        (first, expected), *others = ((files[language], len(texts)) for language, texts in lines.items())
        for path, count in others:
            if count != expected:
                raise DataError(
                    f"{first} has {expected} lines and {path} has {count}: line i of one must be the translation of line i "
                    "of the other"
                )
        broken: dict[int, str] = {}
        for language, texts in lines.items():
            for row, text in enumerate(texts):
                if not text.isascii() and (problem := problem_of(text)):
                    broken.setdefault(row, f"{files[language].name}, line {row + 1}: {problem}")
        columns = {
            language: pa.array([None if row in broken else text for row, text in enumerate(texts)], pa.large_string())
            for language, texts in lines.items()
        }
        digest = hashlib.sha256((self.encoding or "").encode())
        for language, path in files.items():
            digest.update(f"{language}\0{file_digest(path)}\0".encode())
        return RawTable(pa.table(columns), f"{self.root}/{split}{ANY_LANGUAGE}", digest.hexdigest(), broken=broken)

    def stream(self, ref: DatasetRef, split: str, columns: Sequence[str] | None = None) -> RawStream:
        return table_stream(self.load(ref, split), columns)

    def corpus(self) -> Iterator[str] | None:
        return None

    def _lines(self, path: Path) -> list[str]:
        """A file's lines; they end at line feeds alone, since a text may hold other breaks."""
        try:
            with open_text(path, self.encoding) as file:
                return [line.removesuffix("\n").removesuffix("\r") for line in file]
        except READ_ERRORS as error:
            raise DataError(f"{path}: cannot be read ({error})") from None


def base_name(path: Path, split: str) -> str:
    """What follows the split in a file's name, without the suffix of a compression."""
    return path.name.removeprefix(f"{split}.").removesuffix(path.suffix if path.suffix in COMPRESSED else "")
