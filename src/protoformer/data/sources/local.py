"""A folder in the hub's layout."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from protoformer.data.sources.readers import SUFFIXES, batches, edges_digest, read
from protoformer.data.sources.source import RawStream, RawTable, _origin
from protoformer.errors import AbsentSplitError, DataError


class LocalSource:
    """`<root>/<data set>/<subset>/<split>*.parquet` (or jsonl, csv, tsv), the layout and column names of the hub.

    Or txt, whose one column is `text`: a row is a document, and a blank line or the end of a file ends one.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"source.root={root}: no such folder")

    def files(self, dataset: str, subset: str | None, split: str) -> list[Path]:
        """The files of a split, in order of their names."""
        folder = self.root / dataset
        folder = folder / subset if subset else (folder if list(folder.glob(f"{split}*")) else folder / "default")
        found = [
            path
            for path in sorted(folder.glob(f"{split}*"))
            if path.suffix in SUFFIXES and path.name[len(split)] in "-."
        ]
        if not found:
            there = sorted({path.name for path in folder.glob("*")}) if folder.is_dir() else []
            hint = f"it has {', '.join(there)}" if there else "there is no such folder"
            raise AbsentSplitError(f"{folder}: no file {split}*.parquet (or jsonl, csv, tsv, txt); {hint}")
        if len({path.suffix for path in found}) > 1:
            raise DataError(
                f"{folder}: {', '.join(path.name for path in found)}: one split in several formats; keep one"
            )
        shards = [re.search(r"-(\d+)-of-(\d+)$", path.stem) for path in found]
        numbers = [(int(shard[1]), int(shard[2])) if shard else None for shard in shards]
        if any(shards) and numbers != [(number, len(found)) for number in range(len(found))]:
            raise DataError(
                f"{folder}: {', '.join(path.name for path in found)}: an incomplete set of shards of {split}"
            )
        return found

    def load(self, dataset: str, subset: str | None, split: str, revision: str | None = None) -> RawTable:
        paths = self.files(dataset, subset, split)
        digest = hashlib.sha256()
        for path in paths:
            digest.update(path.read_bytes())
        table = pa.concat_tables([read(path) for path in paths], promote_options="permissive")
        return RawTable(table, _origin(paths, split), digest.hexdigest())

    def stream(
        self,
        dataset: str,
        subset: str | None,
        split: str,
        revision: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> RawStream:
        paths = self.files(dataset, subset, split)
        documents = paths[0].suffix == ".txt"
        return RawStream(lambda: batches(paths, columns), _origin(paths, split), edges_digest(paths), documents)

    def corpus(self) -> Iterator[str] | None:
        return None
