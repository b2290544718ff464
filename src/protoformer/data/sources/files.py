"""Text files as a source, for pretraining."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from protoformer.data.sources.readers import SUFFIXES, edges_digest, read_batches
from protoformer.data.sources.source import DatasetRef, RawStream, RawTable
from protoformer.errors import DataError


class FilesSource:
    """Text in files of any name: txt, or parquet, jsonl, csv, tsv with a column `text`. `files` are globs, `**` included.

    Every data set and split is these files, and each row is a document; there are no labels.
    """

    def __init__(self, files: Sequence[str] | str) -> None:
        patterns = [files] if isinstance(files, str) else list(files)
        self.pattern = ", ".join(patterns)
        self.paths: list[Path] = []
        for pattern in patterns:
            matches = [Path(path) for path in sorted(glob.glob(os.path.expanduser(pattern), recursive=True))]
            if not matches:
                raise DataError(f"source.files={pattern}: no such file")
            self.paths += [path for path in matches if path not in self.paths and not path.is_dir()]
        wrong = [str(path) for path in self.paths if path.suffix not in SUFFIXES]
        if wrong or not self.paths:
            what = wrong[0] if wrong else f"source.files={self.pattern}"
            raise DataError(f"{what}: not a text file; supported: {', '.join(SUFFIXES)}")

    def load(self, ref: DatasetRef, split: str) -> RawTable:
        raise DataError(
            f"source=files holds a corpus only, not {ref.dataset}/{ref.subset or 'default'}, split {split}: "
            "use source=hub, source=local or source=sample"
        )

    def stream(self, ref: DatasetRef, split: str, columns: Sequence[str] | None = None) -> RawStream:
        digest = edges_digest(self.paths)
        return RawStream(lambda: read_batches(self.paths, ["text"]), self.pattern, digest, documents=True)

    def corpus(self) -> Iterator[str] | None:
        return None
