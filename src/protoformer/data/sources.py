"""Where rows come from: the hub, a local folder in the hub's layout, the built-in sample, or files of text alone.

A split is read whole (`load`), or, where it may not fit in memory, as a stream of record batches (`stream`).
"""

import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from protoformer import hub
from protoformer.data.files import ROWS, SUFFIXES, batches, edges_digest, read, wanted
from protoformer.errors import AbsentSplitError, DataError

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class RawTable:
    """Rows as they came, where they came from (for messages), and a digest of their content (for caches)."""

    table: pa.Table
    origin: str
    digest: str


@dataclass(frozen=True)
class Part:
    """The rows of a split, or of a part of it, as `datasets` writes it: `train[:80%]`, `train[80%:]`, `train[100:200]`."""

    split: str
    bounds: str = ""  # `[80%:]`

    @classmethod
    def of(cls, text: str) -> "Part":
        found = re.fullmatch(r"([^\[]+)(\[(?:\d+%?)?:(?:\d+%?)?\])", text)
        return cls(*found.groups()) if found else cls(text)

    def rows(self, count: int) -> range:
        """Which of `count` rows; shares are rounded to the nearest row."""
        begin, _, end = self.bounds[1:-1].partition(":")
        ends = [
            round(int(bound[:-1]) / 100 * count) if bound.endswith("%") else int(bound or default)
            for bound, default in ((begin, 0), (end, count))
        ]
        return range(count)[slice(*ends)]

    def taken(self, raw: RawTable) -> RawTable:
        if not self.bounds:
            return raw
        rows = self.rows(raw.table.num_rows)
        digest = hashlib.sha256(f"{raw.digest}{self.bounds}".encode()).hexdigest()
        return RawTable(raw.table.slice(rows.start, len(rows)), f"{raw.origin}{self.bounds}", digest)


@dataclass(frozen=True)
class RawStream:
    """Rows as they came, a record batch at a time; every call of `batches` reads them anew, from the first one on.

    `documents`: each row is a whole document, whatever is known of the data set that was asked for.
    """

    batches: Callable[[], Iterator[pa.RecordBatch]]
    origin: str
    digest: str
    documents: bool = False


class Source(Protocol):
    """A place that has data sets."""

    def load(self, dataset: str, subset: str | None, split: str, revision: str | None = None) -> RawTable:
        """All rows of one split. Raises DataError when it is not to be had."""
        ...

    def stream(
        self,
        dataset: str,
        subset: str | None,
        split: str,
        revision: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> RawStream:
        """The same rows, never all at once, and of the columns only those named. Raises DataError when they are not to be
        had, here or when they are read."""
        ...

    def corpus(self) -> Iterator[str] | None:
        """Text to learn a vocabulary from, where the source brings no tokenizer of its own; else None."""
        ...


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
                f"{folder}: {', '.join(path.name for path in found)}: not the whole set of shards of {split}"
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
            raise DataError(f"{what}: not a file of text; those end in {', '.join(SUFFIXES)}")

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


def _origin(paths: Sequence[Path], split: str) -> str:
    return str(paths[0] if len(paths) == 1 else paths[0].parent / f"{split}*")


def _table_stream(raw: RawTable, columns: Sequence[str] | None) -> RawStream:
    """A table's rows in pieces (no copy of them)."""
    names = wanted(columns, raw.table.column_names, raw.origin)
    return RawStream(lambda: iter(raw.table.select(names).to_batches(max_chunksize=ROWS)), raw.origin, raw.digest)


class SampleSource:
    """The built-in sample: made by a grammar, labelled by construction, in the hub's schemas; needs no network."""

    def __init__(self, seed: int = 0, rows: int | None = None) -> None:
        self.seed, self.rows = seed, rows
        self._made: dict[str, RawTable] = {}

    def load(self, dataset: str, subset: str | None, split: str, revision: str | None = None) -> RawTable:
        from protoformer.data.sample import generate

        name = f"{dataset}/{subset}/{split}"
        if name not in self._made:
            table = generate(dataset, subset, split, self.seed, self.rows)
            digest = hashlib.sha256(str(table.to_pydict()).encode()).hexdigest()
            self._made[name] = RawTable(table, f"sample:{name}", digest)
        return self._made[name]

    def stream(
        self,
        dataset: str,
        subset: str | None,
        split: str,
        revision: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> RawStream:
        return _table_stream(self.load(dataset, subset, split, revision), columns)

    def corpus(self) -> Iterator[str] | None:
        from protoformer.data.sample import corpus

        return corpus(self.seed)


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
        f"hub data set {hub.named(dataset, revision)} ({where}) is not to be had: {why}; "
        f"{later} use source=local or source=sample"
    )


def _snake(name: str) -> str:
    from datasets.naming import camelcase_to_snakecase

    return camelcase_to_snakecase(name)
