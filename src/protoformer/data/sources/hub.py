"""Data sets of the Hugging Face hub as a source."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from protoformer import hub
from protoformer.data.sources.source import DatasetRef, RawStream, RawTable, table_stream

if TYPE_CHECKING:
    import datasets


class HubSource:
    """Hugging Face `datasets`, at the commit that the task's yaml pins (or the newest, whose commit is recorded).

    Rows of another commit than the pinned one are refused: the library itself falls back on whatever it has cached.
    `commits` holds the commit of each data set that was read, `cache_folders` where its rows are cached.
    """

    def __init__(self) -> None:
        self.commits: dict[str, str] = {}
        self.cache_folders: dict[str, str] = {}
        self._builders: dict[tuple[str, str | None, str | None], datasets.DatasetBuilder] = {}

    def load(self, ref: DatasetRef, split: str) -> RawTable:
        from protoformer.data.sources import hub_builders  # imports `datasets`: slow, and for this source alone

        hub_builders.disable_progress_bars()
        key = (ref.dataset, ref.subset, ref.revision)
        try:
            if key not in self._builders:
                self._builders[key] = hub_builders.prepared_builder(ref)
            builder = self._builders[key]
            rows = builder.as_dataset(split=split)
        except hub_builders.UNAVAILABLE as error:
            refused = isinstance(error, hub_builders.REFUSED)
            raise hub_builders.unavailable(ref, split, hub.first_line(error), may_pass=not refused) from error
        commit = self.commits[ref.dataset] = str(builder.hash)
        self.cache_folders[ref.dataset] = str(builder.cache_dir)
        name = f"hub:{ref.dataset}@{commit[:8]}/{ref.subset or 'default'}/{split}"
        digest = hashlib.sha256(f"{ref.dataset}@{commit}/{ref.subset}/{split}".encode()).hexdigest()
        return RawTable(rows.data.table, name, digest)

    def stream(self, ref: DatasetRef, split: str, columns: Sequence[str] | None = None) -> RawStream:
        # the rows are mapped from the library's cache, not held in memory
        return table_stream(self.load(ref, split), columns)

    def corpus(self) -> Iterator[str] | None:
        return None
