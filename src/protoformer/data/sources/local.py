"""A folder in the hub's layout as a source."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from protoformer.data.sources.readers import SUFFIXES, edges_digest, read_batches, read_table
from protoformer.data.sources.source import DatasetRef, RawStream, RawTable, files_origin
from protoformer.errors import AbsentSplitError, DataError


class LocalSource:
    """`<root>/<data set>/<subset>/<split>*.parquet` (or jsonl, csv, tsv, txt), the hub's layout and column names.

    A txt file has one column, `text`. Its rows are documents; a blank line or the end of the file ends one.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"source.root={root}: no such folder")

    def files(self, ref: DatasetRef, split: str) -> list[Path]:
        """The files of a split, in order of their names."""
        folder = self.root / ref.dataset
        if ref.subset:
            folder /= ref.subset
        elif not list(folder.glob(f"{split}*")):
            folder /= "default"
        paths = [
            path
            for path in sorted(folder.glob(f"{split}*"))
            if path.suffix in SUFFIXES and path.name[len(split)] in "-."
        ]
        if not paths:
            names = sorted({path.name for path in folder.glob("*")}) if folder.is_dir() else []
            hint = f"it has {', '.join(names)}" if names else "there is no such folder"
            raise AbsentSplitError(f"{folder}: no file {split}*.parquet (or jsonl, csv, tsv, txt); {hint}")
        if len({path.suffix for path in paths}) > 1:
            raise DataError(
                f"{folder}: {', '.join(path.name for path in paths)}: one split in several formats; keep one"
            )
        shard_suffixes = [re.search(r"-(\d+)-of-(\d+)$", path.stem) for path in paths]
        numbers = [(int(shard[1]), int(shard[2])) if shard else None for shard in shard_suffixes]
        if any(shard_suffixes) and numbers != [(number, len(paths)) for number in range(len(paths))]:
            raise DataError(
                f"{folder}: {', '.join(path.name for path in paths)}: an incomplete set of shards of {split}"
            )
        return paths

    def load(self, ref: DatasetRef, split: str) -> RawTable:
        paths = self.files(ref, split)
        digest = hashlib.sha256()
        for path in paths:
            digest.update(path.read_bytes())
        table = pa.concat_tables([read_table(path) for path in paths], promote_options="permissive")
        return RawTable(table, files_origin(paths, split), digest.hexdigest())

    def stream(self, ref: DatasetRef, split: str, columns: Sequence[str] | None = None) -> RawStream:
        paths = self.files(ref, split)
        documents = paths[0].suffix == ".txt"
        return RawStream(
            lambda: read_batches(paths, columns), files_origin(paths, split), edges_digest(paths), documents
        )

    def corpus(self) -> Iterator[str] | None:
        return None
