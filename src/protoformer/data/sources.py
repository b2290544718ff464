"""Where rows come from: the hub, a local folder in the hub's layout, or the built-in sample."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from protoformer.errors import DataError

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv")


@dataclass(frozen=True)
class RawTable:
    """Rows as they came, where they came from (for messages), and a digest of their content (for caches)."""

    table: pa.Table
    origin: str
    digest: str


class Source(Protocol):
    """A place that has data sets."""

    def load(self, dataset: str, subset: str | None, split: str, revision: str | None = None) -> RawTable:
        """All rows of one split. Raises DataError when it is not to be had."""
        ...

    def corpus(self) -> Iterator[str] | None:
        """Text to learn a vocabulary from, where the source brings no tokenizer of its own; else None."""
        ...


class LocalSource:
    """`<root>/<data set>/<subset>/<split>*.parquet` (or jsonl, csv, tsv), the layout and column names of the hub."""

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
            raise DataError(f"{folder}: no file {split}*.parquet (or jsonl, csv, tsv); {hint}")
        return found

    def load(self, dataset: str, subset: str | None, split: str, revision: str | None = None) -> RawTable:
        paths = self.files(dataset, subset, split)
        digest = hashlib.sha256()
        for path in paths:
            digest.update(path.read_bytes())
        table = pa.concat_tables([_read(path) for path in paths], promote_options="permissive")
        return RawTable(table, str(paths[0] if len(paths) == 1 else paths[0].parent / f"{split}*"), digest.hexdigest())

    def corpus(self) -> Iterator[str] | None:
        return None


def _read(path: Path) -> pa.Table:
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

    try:
        if path.suffix == ".parquet":
            return pyarrow.parquet.read_table(path)
        if path.suffix in (".jsonl", ".json"):
            return pyarrow.json.read_json(path)
        tabs = path.suffix == ".tsv"
        return pyarrow.csv.read_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(delimiter="\t" if tabs else ",", quote_char=False if tabs else '"'),
            convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=False),
        )
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None


class SampleSource:
    """The built-in sample: made by a grammar, labelled by construction, in the hub's schemas; needs no network."""

    def __init__(self, seed: int = 0, rows: int | None = None) -> None:
        self.seed, self.rows = seed, rows

    def load(self, dataset: str, subset: str | None, split: str, revision: str | None = None) -> RawTable:
        from protoformer.data.sample import generate

        table = generate(dataset, subset, split, self.seed, self.rows)
        digest = hashlib.sha256(str(table.to_pydict()).encode()).hexdigest()
        return RawTable(table, f"sample:{dataset}/{subset}/{split}", digest)

    def corpus(self) -> Iterator[str] | None:
        from protoformer.data.sample import corpus

        return corpus(self.seed)


class HubSource:
    """Hugging Face `datasets`, at the commit that the task's yaml pins (or the newest, whose commit is recorded)."""

    def __init__(self) -> None:
        self.commits: dict[str, str] = {}

    def load(self, dataset: str, subset: str | None, split: str, revision: str | None = None) -> RawTable:
        import datasets

        try:
            rows = datasets.load_dataset(dataset, subset, split=split, revision=revision)
        except Exception as error:
            raise DataError(
                f"hub data set {dataset} ({subset or 'default'}, {split}) is not to be had: {_first_line(error)}; "
                "with a network `protoformer prepare` fetches it, without one use source=local or source=sample"
            ) from error
        commit = next((url.split("@")[1].split("/")[0] for url in rows.info.download_checksums or {} if "@" in url), "")
        self.commits[dataset] = commit or revision or "unknown"
        name = f"hub:{dataset}@{self.commits[dataset][:8]}/{subset or 'default'}/{split}"
        digest = hashlib.sha256(f"{dataset}@{self.commits[dataset]}/{subset}/{split}".encode()).hexdigest()
        return RawTable(rows.data.table, name, digest)

    def corpus(self) -> Iterator[str] | None:
        return None


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
