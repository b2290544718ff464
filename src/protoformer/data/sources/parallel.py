"""Parallel text as a source: one file for each language and split, one sentence a line."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from protoformer.data.sources.source import DatasetRef, RawStream, RawTable, table_stream
from protoformer.errors import AbsentSplitError, DataError

ANY_LANGUAGE = ".*"  # ends the origin of a split with one file for each language


class ParallelSource:
    """Parallel text in files `<root>/<split>.<language>`, one sentence a line; a column for each language.

    Every data set is these files.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise DataError(f"source.root={root}: no such folder")

    def files(self, split: str) -> dict[str, Path]:
        """The files of a split, by language. Raises AbsentSplitError where there are none."""
        paths = {path.suffix[1:]: path for path in sorted(self.root.glob(f"{split}.*")) if path.stem == split}
        if len(paths) < 2:
            names = ", ".join(sorted(path.name for path in self.root.iterdir() if path.is_file())) or "no file"
            raise AbsentSplitError(f"{self.root}: no files {split}.<language>, a language each; the folder has {names}")
        return paths

    def load(self, ref: DatasetRef, split: str) -> RawTable:
        """Raises DataError for files of unequal length, naming both counts, and for what is not UTF-8."""
        files = self.files(split)
        lines = {language: _lines(path) for language, path in files.items()}
        (first, expected), *others = ((files[language], len(texts)) for language, texts in lines.items())
        for path, count in others:
            if count != expected:
                raise DataError(
                    f"{first} has {expected} lines and {path} has {count}: line i of one must be the translation of line i "
                    "of the other"
                )
        digest = hashlib.sha256()
        for language, path in files.items():
            digest.update(f"{language}\0".encode() + path.read_bytes())
        return RawTable(pa.table(lines), f"{self.root}/{split}{ANY_LANGUAGE}", digest.hexdigest())

    def stream(self, ref: DatasetRef, split: str, columns: Sequence[str] | None = None) -> RawStream:
        return table_stream(self.load(ref, split), columns)

    def corpus(self) -> Iterator[str] | None:
        return None


def _lines(path: Path) -> list[str]:
    """A file's lines; they end at line feeds alone, since a text may hold other breaks."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, byte {error.start}: not UTF-8 ({error.reason}); convert the file") from None
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
