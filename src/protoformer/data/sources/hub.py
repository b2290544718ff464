"""Data sets of the Hugging Face hub."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from protoformer import hub
from protoformer.errors import DataError

if TYPE_CHECKING:
    import datasets
from protoformer.data.sources.source import RawStream, RawTable, _table_stream


class HubSource:
    """Hugging Face `datasets`, at the commit that the task's yaml pins (or the newest, whose commit is recorded).

    Rows of another commit than the pinned one are refused: the library itself falls back on whatever it has cached.
    `commits` holds, for each data set that was read, the commit that its rows are of, `places` where they are cached.
    """

    def __init__(self) -> None:
        self.commits: dict[str, str] = {}
        self.places: dict[str, str] = {}
        self._builders: dict[tuple[str, str | None, str | None], datasets.DatasetBuilder] = {}

    def load(self, dataset: str, subset: str | None, split: str, revision: str | None = None) -> RawTable:
        import datasets

        hub.quiet()
        if not hub.watched() and "HF_DATASETS_DISABLE_PROGRESS_BARS" not in os.environ:
            datasets.disable_progress_bars()
        try:
            builder = self._prepared(dataset, subset, revision)
            rows = builder.as_dataset(split=split)
        except DataError:
            raise
        except Exception as error:
            said_no = isinstance(error, datasets.exceptions.DatasetNotFoundError | ValueError)
            raise _not_to_be_had(
                dataset, subset, split, revision, hub.first_line(error), may_pass=not said_no
            ) from error
        commit = self.commits[dataset] = str(builder.hash)
        self.places[dataset] = str(builder.cache_dir)
        name = f"hub:{dataset}@{commit[:8]}/{subset or 'default'}/{split}"
        digest = hashlib.sha256(f"{dataset}@{commit}/{subset}/{split}".encode()).hexdigest()
        return RawTable(rows.data.table, name, digest)

    def stream(
        self,
        dataset: str,
        subset: str | None,
        split: str,
        revision: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> RawStream:
        # the rows are mapped from the library's cache, not held in memory
        return _table_stream(self.load(dataset, subset, split, revision), columns)

    def _prepared(self, dataset: str, subset: str | None, revision: str | None) -> "datasets.DatasetBuilder":
        """All splits of a subset as files of the library's cache, fetched where they are not there yet."""
        key = (dataset, subset, revision)
        if key not in self._builders:
            self._builders[key] = _cached(dataset, subset, revision) or _fetched(dataset, subset, revision)
        return self._builders[key]

    def corpus(self) -> Iterator[str] | None:
        return None


def _cached(dataset: str, subset: str | None, revision: str | None) -> "datasets.DatasetBuilder | None":
    """From the cache, without the network: the pinned commit, or (nothing pinned, hub away) the newest that is there."""
    import datasets
    from datasets.packaged_modules.cache.cache import Cache

    if not hub.is_commit(revision) and not hub.unreachable():
        return None
    namespace, _, name = dataset.rpartition("/")
    place = Path(datasets.config.HF_DATASETS_CACHE) / "___".join(filter(None, (namespace, _snake(name))))
    commit = revision if hub.is_commit(revision) else "*"
    found = [path for path in place.glob(f"{subset or 'default'}/*/{commit}/") if hub.is_commit(path.name)]
    if not found:
        return None
    newest = max(found, key=lambda path: path.stat().st_mtime)
    return Cache(
        repo_id=dataset, dataset_name=name, config_name=newest.parts[-3], version=newest.parts[-2], hash=newest.name
    )


def _fetched(dataset: str, subset: str | None, revision: str | None) -> "datasets.DatasetBuilder":
    import datasets

    if why := hub.unreachable():
        why = f"it is not in the cache, and the hub cannot be asked: {why}"
        raise _not_to_be_had(dataset, subset, "", revision, why)
    address = f"hf://datasets/{dataset}"  # a bare name would mean a folder of that name, where one is at hand
    builder = datasets.load_dataset_builder(address, subset, revision=revision)
    if hub.is_commit(revision) and builder.hash != revision:  # the library fell back on another commit in its cache
        raise _not_to_be_had(dataset, subset, "", revision, f"it cannot be fetched (cached is {builder.hash})")
    builder.download_and_prepare()
    return builder


def _not_to_be_had(
    dataset: str, subset: str | None, split: str, revision: str | None, why: str, *, may_pass: bool = True
) -> DataError:
    where = ", ".join(filter(None, (subset or "default", split)))
    later = "with a network `protoformer prepare` fetches it, without one" if may_pass else "put that right, or"
    return DataError(
        f"hub data set {hub.named(dataset, revision)} ({where}) is not available: {why}; "
        f"{later} use source=local or source=sample"
    )


def _snake(name: str) -> str:
    from datasets.naming import camelcase_to_snakecase

    return camelcase_to_snakecase(name)
