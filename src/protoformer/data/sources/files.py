"""Text files of one's own, for pretraining."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from protoformer.data.sources.readers import SUFFIXES, batches, edges_digest
from protoformer.data.sources.source import RawStream, RawTable
from protoformer.errors import DataError


class FilesSource:
    """Text in files of any name and place: txt, or parquet, jsonl, csv, tsv with a column `text`. Globs, `**` included.

    Whatever data set is asked for, these files are what there is, each row a document; there are no splits and no labels.
    """

    def __init__(self, files: Sequence[str] | str) -> None:
        patterns = [files] if isinstance(files, str) else list(files)
        self.pattern = ", ".join(patterns)
        self.paths: list[Path] = []
        for pattern in patterns:
            found = sorted(glob.glob(os.path.expanduser(pattern), recursive=True))
            if not found:
                raise DataError(f"source.files={pattern}: no such file")
            self.paths += [Path(path) for path in found if path not in map(str, self.paths) and not os.path.isdir(path)]
        wrong = [str(path) for path in self.paths if path.suffix not in SUFFIXES]
        if wrong or not self.paths:
            what = wrong[0] if wrong else f"source.files={self.pattern}"
            raise DataError(f"{what}: not a text file; supported: {', '.join(SUFFIXES)}")

    def load(self, dataset: str, subset: str | None, split: str, revision: str | None = None) -> RawTable:
        raise DataError(
            f"source=files holds a corpus only, not {dataset}/{subset or 'default'}, split {split}: "
            "use source=hub, source=local or source=sample"
        )

    def stream(
        self,
        dataset: str,
        subset: str | None,
        split: str,
        revision: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> RawStream:
        digest = edges_digest(self.paths)
        return RawStream(lambda: batches(self.paths, ["text"]), self.pattern, digest, documents=True)

    def corpus(self) -> Iterator[str] | None:
        return None
