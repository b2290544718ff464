"""Parallel text: a file for each language and split, a sentence a line."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from protoformer.data.sources.source import RawStream, RawTable
from protoformer.errors import AbsentSplitError, DataError

LINES = ".*"  # ends the name of files that are one for each language


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
                    f"{first} has {expected} lines and {path} has {count}: line i of one must be the translation of line i "
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
