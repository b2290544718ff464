"""A folder in the hub's layout as a source."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from protoformer.data.sources.readers import is_supported
from protoformer.data.sources.source import (
    DatasetRef,
    RawStream,
    RawTable,
    files_origin,
    files_stream,
    files_table,
)
from protoformer.data.sources.text_files import COMPRESSED, base_suffix, check_encoding
from protoformer.errors import AbsentSplitError, DataError


class LocalSource:
    """`<root>/<data set>/<subset>/<split>*.parquet` (or jsonl, json, csv, tsv, txt), the hub's layout and column names.

    A txt file has one column, `text`. Its rows are documents; a blank line or the end of the file ends one. `encoding` is that
    of text files (None: UTF-8, or what a byte order mark says).
    """

    def __init__(self, root: str, encoding: str | None = None) -> None:
        self.root, self.encoding = Path(root).expanduser(), check_encoding(encoding)
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
            if is_supported(path) and path.is_file() and path.name[len(split)] in "-."
        ]
        if not paths:
            names = sorted({path.name for path in folder.glob("*")}) if folder.is_dir() else []
            hint = f"it has {', '.join(names)}" if names else "there is no such folder"
            raise AbsentSplitError(f"{folder}: no file {split}*.parquet (or jsonl, json, csv, tsv, txt); {hint}")
        if len({base_suffix(path) for path in paths}) > 1:
            raise DataError(
                f"{folder}: {', '.join(path.name for path in paths)}: one split in several formats; keep one"
            )
        stems = [path.name.removesuffix(path.suffix if path.suffix in COMPRESSED else "") for path in paths]
        shard_suffixes = [re.search(r"-(\d+)-of-(\d+)$", Path(stem).stem) for stem in stems]
        numbers = [(int(shard[1]), int(shard[2])) if shard else None for shard in shard_suffixes]
        if any(shard_suffixes) and numbers != [(number, len(paths)) for number in range(len(paths))]:
            raise DataError(
                f"{folder}: {', '.join(path.name for path in paths)}: an incomplete set of shards of {split}"
            )
        return paths

    def load(self, ref: DatasetRef, split: str) -> RawTable:
        paths = self.files(ref, split)
        return files_table(paths, files_origin(paths, split), self.encoding)

    def stream(self, ref: DatasetRef, split: str, columns: Sequence[str] | None = None) -> RawStream:
        paths = self.files(ref, split)
        documents = base_suffix(paths[0]) == ".txt"
        return files_stream(paths, files_origin(paths, split), columns, self.encoding, documents=documents)

    def corpus(self) -> Iterator[str] | None:
        return None
