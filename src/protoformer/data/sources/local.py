"""A folder in the hub's layout as a source."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from protoformer.config.validate import OWN_DATA
from protoformer.data.sources.readers import SUPPORTED, is_supported
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

MAX_NAMES = 8  # of a folder's content, in a message


class LocalSource:
    """`<root>/<data set>/<subset>/<split>*.parquet` (or jsonl, json, csv, tsv, txt), the hub's layout and column names. The
    data set `.` is the root itself: a folder, or one file, which is its training split.

    A txt file has one column, `text`. Its rows are documents; a blank line or the end of the file ends one. `encoding` is that
    of text files (None: UTF-8, or what a byte order mark says).
    """

    def __init__(self, root: str, encoding: str | None = None) -> None:
        self.root, self.encoding = Path(root).expanduser(), check_encoding(encoding)
        if not self.root.exists():
            raise DataError(f"source.root={root}: no such folder, and no such file")
        if self.root.is_file() and not is_supported(self.root):
            raise DataError(f"source.root={root}: not a file of rows; supported: {SUPPORTED}")

    def files(self, ref: DatasetRef, split: str) -> list[Path]:
        """The files of a split, in order of their names. Raises AbsentSplitError where there is none."""
        if self.root.is_file():
            return self._only_file(ref, split)
        folder = self.root / ref.dataset
        if ref.subset:
            folder /= ref.subset
        elif not list(folder.glob(f"{split}*")) and (folder / "default").is_dir():
            folder /= "default"
        paths = [
            path
            for path in sorted(folder.glob(f"{split}*"))
            if is_supported(path) and path.is_file() and path.name[len(split)] in "-."
        ]
        if not paths:
            names = sorted({path.name for path in folder.glob("*")}) if folder.is_dir() else []
            hint = f"it has {', '.join(names)}" if names else self._nearest(folder)
            if any(name.startswith(f"{split}.") for name in names):
                hint += "; parallel text, a file for each language, is source=parallel"
            raise AbsentSplitError(f"{folder}: no file {split}*.parquet (or jsonl, json, csv, tsv, txt); {hint}")
        if len({base_suffix(path) for path in paths}) > 1:
            raise DataError(
                f"{folder}: {', '.join(path.name for path in paths)}: one split in several formats; keep one"
            )
        stems = [path.name.removesuffix(path.suffix if path.suffix in COMPRESSED else "") for path in paths]
        if len(set(stems)) < len(stems):
            raise DataError(
                f"{folder}: {', '.join(path.name for path in paths)}: one file twice, compressed and not; keep one"
            )
        shard_suffixes = [re.search(r"-(\d+)-of-(\d+)$", Path(stem).stem) for stem in stems]
        numbers = [(int(shard[1]), int(shard[2])) if shard else None for shard in shard_suffixes]
        if any(shard_suffixes) and numbers != [(number, len(paths)) for number in range(len(paths))]:
            raise DataError(
                f"{folder}: {', '.join(path.name for path in paths)}: an incomplete set of shards of {split}"
            )
        return paths

    def _nearest(self, folder: Path) -> str:
        """What stands in the nearest folder that is there."""
        while not folder.is_dir() or not any(folder.iterdir()):
            if folder == self.root:
                return f"{folder} is empty"
            folder = folder.parent
        names = sorted(path.name for path in folder.iterdir())
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        return f"there is no such folder; {folder} has {', '.join(names[:MAX_NAMES])}{more}"

    def _only_file(self, ref: DatasetRef, split: str) -> list[Path]:
        if ref.dataset != OWN_DATA or ref.subset:
            raise DataError(
                f"source.root={self.root}: a file, where {ref.dataset} is a folder; name the folder above it"
            )
        if split != "train":
            raise AbsentSplitError(f"{self.root}: one file, the training split; there is no {split}")
        return [self.root]

    def load(self, ref: DatasetRef, split: str) -> RawTable:
        paths = self.files(ref, split)
        return files_table(paths, files_origin(paths, split), self.encoding)

    def stream(self, ref: DatasetRef, split: str, columns: Sequence[str] | None = None) -> RawStream:
        paths = self.files(ref, split)
        documents = base_suffix(paths[0]) == ".txt"
        return files_stream(paths, files_origin(paths, split), columns, self.encoding, documents=documents)

    def corpus(self) -> Iterator[str] | None:
        return None
