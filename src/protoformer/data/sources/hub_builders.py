"""Dataset builders of the Hugging Face hub: from the cache of `datasets`, or downloaded."""

import os
from pathlib import Path

import datasets
from datasets.naming import camelcase_to_snakecase
from datasets.packaged_modules.cache.cache import Cache

from protoformer import hub
from protoformer.data.sources.source import DatasetRef
from protoformer.errors import DataError

# what the library raises when a data set or the network is not available; anything else is a bug and passes through
UNAVAILABLE: tuple[type[Exception], ...] = (datasets.exceptions.DatasetsError, OSError, ValueError, *hub.HTTP_ERRORS)
REFUSED: tuple[type[Exception], ...] = (datasets.exceptions.DatasetNotFoundError, ValueError)  # now and later


def disable_progress_bars() -> None:
    """Turn the library's progress bars off where no person sees them, unless the environment says otherwise."""
    hub.disable_progress_bars()
    if not hub.is_interactive() and "HF_DATASETS_DISABLE_PROGRESS_BARS" not in os.environ:
        datasets.disable_progress_bars()


def prepared_builder(ref: DatasetRef) -> datasets.DatasetBuilder:
    """All splits of a subset as files in the library's cache, downloaded where they are not there yet."""
    return _cached_builder(ref) or _downloaded_builder(ref)


def _cached_builder(ref: DatasetRef) -> datasets.DatasetBuilder | None:
    """From the cache, without the network: the pinned commit, or (no commit pinned, hub unreachable) the newest cached one."""
    if not hub.is_commit(ref.revision) and not hub.unreachable():
        return None
    namespace, _, name = ref.dataset.rpartition("/")
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "___".join(
        filter(None, (namespace, camelcase_to_snakecase(name)))
    )
    commit = ref.revision if hub.is_commit(ref.revision) else "*"
    cached = [path for path in folder.glob(f"{ref.subset or 'default'}/*/{commit}/") if hub.is_commit(path.name)]
    if not cached:
        return None
    newest = max(cached, key=lambda path: path.stat().st_mtime)
    return Cache(
        repo_id=ref.dataset, dataset_name=name, config_name=newest.parts[-3], version=newest.parts[-2], hash=newest.name
    )


def _downloaded_builder(ref: DatasetRef) -> datasets.DatasetBuilder:
    if reason := hub.unreachable():
        raise unavailable(ref, "", f"it is not in the cache, and the hub cannot be reached: {reason}")
    address = f"hf://datasets/{ref.dataset}"  # a bare name would mean a local folder of that name, where there is one
    builder = datasets.load_dataset_builder(address, ref.subset, revision=ref.revision)
    if hub.is_commit(ref.revision) and builder.hash != ref.revision:  # the library fell back on another cached commit
        raise unavailable(ref, "", f"it cannot be fetched (cached is {builder.hash})")
    builder.download_and_prepare()
    return builder


def unavailable(ref: DatasetRef, split: str, reason: str, *, may_pass: bool = True) -> DataError:
    """The error for a data set, or a split of it, that cannot be had; `may_pass`: the same call may succeed later."""
    where = ", ".join(filter(None, (ref.subset or "default", split)))
    advice = "with a network `protoformer prepare` fetches it, without one" if may_pass else "put that right, or"
    return DataError(
        f"hub data set {hub.describe(ref.dataset, ref.revision)} ({where}) is not available: {reason}; "
        f"{advice} use source=local or source=sample"
    )
