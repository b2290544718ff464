"""Data sets of the Hugging Face hub as a source."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from protoformer import hub
from protoformer.data.sources.source import DatasetRef, RawStream, RawTable, table_stream
from protoformer.errors import DataError

if TYPE_CHECKING:  # `datasets` takes seconds to import, which only this source needs
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
        import datasets

        hub.disable_progress_bars()
        if not hub.is_interactive() and "HF_DATASETS_DISABLE_PROGRESS_BARS" not in os.environ:
            datasets.disable_progress_bars()
        try:
            builder = self._prepared_builder(ref)
            rows = builder.as_dataset(split=split)
        except DataError:
            raise
        except Exception as error:
            if not _is_unavailability(error):  # a bug, which must not pass for a missing data set
                raise
            refused = isinstance(error, datasets.exceptions.DatasetNotFoundError | ValueError)
            raise _unavailable(ref, split, hub.first_line(error), may_pass=not refused) from error
        commit = self.commits[ref.dataset] = str(builder.hash)
        self.cache_folders[ref.dataset] = str(builder.cache_dir)
        name = f"hub:{ref.dataset}@{commit[:8]}/{ref.subset or 'default'}/{split}"
        digest = hashlib.sha256(f"{ref.dataset}@{commit}/{ref.subset}/{split}".encode()).hexdigest()
        return RawTable(rows.data.table, name, digest)

    def stream(self, ref: DatasetRef, split: str, columns: Sequence[str] | None = None) -> RawStream:
        # the rows are mapped from the library's cache, not held in memory
        return table_stream(self.load(ref, split), columns)

    def _prepared_builder(self, ref: DatasetRef) -> "datasets.DatasetBuilder":
        """All splits of a subset as files in the library's cache, downloaded where they are not there yet."""
        key = (ref.dataset, ref.subset, ref.revision)
        if key not in self._builders:
            self._builders[key] = _cached_builder(ref) or _downloaded_builder(ref)
        return self._builders[key]

    def corpus(self) -> Iterator[str] | None:
        return None


def _cached_builder(ref: DatasetRef) -> "datasets.DatasetBuilder | None":
    """From the cache, without the network: the pinned commit, or (no commit pinned, hub unreachable) the newest cached one."""
    import datasets
    from datasets.packaged_modules.cache.cache import Cache

    if not hub.is_commit(ref.revision) and not hub.unreachable():
        return None
    namespace, _, name = ref.dataset.rpartition("/")
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "___".join(filter(None, (namespace, _snake_case(name))))
    commit = ref.revision if hub.is_commit(ref.revision) else "*"
    cached = [path for path in folder.glob(f"{ref.subset or 'default'}/*/{commit}/") if hub.is_commit(path.name)]
    if not cached:
        return None
    newest = max(cached, key=lambda path: path.stat().st_mtime)
    return Cache(
        repo_id=ref.dataset, dataset_name=name, config_name=newest.parts[-3], version=newest.parts[-2], hash=newest.name
    )


def _downloaded_builder(ref: DatasetRef) -> "datasets.DatasetBuilder":
    import datasets

    if reason := hub.unreachable():
        raise _unavailable(ref, "", f"it is not in the cache, and the hub cannot be asked: {reason}")
    address = f"hf://datasets/{ref.dataset}"  # a bare name would mean a local folder of that name, where there is one
    builder = datasets.load_dataset_builder(address, ref.subset, revision=ref.revision)
    if hub.is_commit(ref.revision) and builder.hash != ref.revision:  # the library fell back on another cached commit
        raise _unavailable(ref, "", f"it cannot be fetched (cached is {builder.hash})")
    builder.download_and_prepare()
    return builder


def _is_unavailability(error: Exception) -> bool:
    """Whether an error of the library says that the data set, or the network, is not available."""
    import datasets

    return isinstance(error, datasets.exceptions.DatasetsError | OSError | ValueError) or hub.is_http_error(error)


def _unavailable(ref: DatasetRef, split: str, reason: str, *, may_pass: bool = True) -> DataError:
    where = ", ".join(filter(None, (ref.subset or "default", split)))
    advice = "with a network `protoformer prepare` fetches it, without one" if may_pass else "put that right, or"
    return DataError(
        f"hub data set {hub.describe(ref.dataset, ref.revision)} ({where}) is not available: {reason}; "
        f"{advice} use source=local or source=sample"
    )


def _snake_case(name: str) -> str:
    from datasets.naming import camelcase_to_snakecase

    return camelcase_to_snakecase(name)
