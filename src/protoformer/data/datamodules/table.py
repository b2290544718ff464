"""What every task kind's LightningDataModule shares: splits, token caches, loaders whose place is saved.

A kind says how rows become a table of ids (`write`) and how rows of a table become a batch (`collate`).
"""

import inspect
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import lightning.pytorch as pl

from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.samplers import Batching, BatchSampler
from protoformer.data.cache import Table, cached
from protoformer.data.sources.source import Part, RawTable, Role, Source
from protoformer.errors import AbsentSplitError
from protoformer.runs.digests import outside_digest
from protoformer.text.tokenizers import Tokenizer

log = logging.getLogger(__name__)
AnyTable = TypeVar("AnyTable", bound=Table)


def named_splits(splits: str | Mapping[str, str] | None) -> dict[str, str]:
    """Our names of a stage's splits -> the data set's; a single one has the empty name."""
    if splits is None:
        return {}
    return {"": splits} if isinstance(splits, str) else dict(splits)


class TableDataModule(pl.LightningDataModule, Generic[AnyTable]):
    """`tables` holds, after `setup`, the tokenised splits by role and our name of the split.

    `rows` names the data set and reads its rows; `template` writes them as ids by the method that `template_method` names.
    """

    template_method: ClassVar[str]  # the template method that this kind needs
    table: ClassVar[type[Table]]  # what it keeps on disk
    # facts of a table that count what was not used whole -> what a report calls them
    incomplete_data: ClassVar[Mapping[str, str]] = {"truncated": "truncated rows", "skipped": "rows left out"}

    def __init__(
        self,
        *,
        rows: Any,
        splits: Mapping[str, str | Mapping[str, str] | None],
        source: Source,
        tokenizer: Tokenizer,
        template: Any,
        max_len: int,
        batching: Batching,
        cache: Path,
        on_bad_row: Literal["error", "skip"] = "error",
    ) -> None:
        super().__init__()
        self.rows, self.source, self.tokenizer, self.template = rows, source, tokenizer, template
        self.max_len, self.batching, self.cache, self.on_bad_row = max_len, batching, cache, on_bad_row
        self.splits: dict[Role, dict[str, str]] = {
            "train": named_splits(splits.get("train")),
            "validation": named_splits(splits.get("validation")),
            "test": named_splits(splits.get("test")),
        }
        self.tables: dict[Role, dict[str, AnyTable]] = {}

    def write(self, raw: RawTable, role: Role) -> AnyTable:
        """Rows -> ids. `stats` hold what is to be told of them (`truncated`, `skipped`, ...)."""
        raise NotImplementedError

    def collate(self, table: AnyTable) -> Callable[[list[int]], Any]:
        """What turns row numbers of `table` (or fillers) into a batch."""
        raise NotImplementedError

    def references(self, role: Role, split: str) -> Any:
        """What an evaluation of the split needs besides its batches, once `setup` has run; None where that is nothing."""
        return None

    def texts(self, role: Role, split: str) -> list[str]:
        """The text of every example of a split in one line, for a list of mistakes, where its kind has one."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """What else than rows, tokenizer, template and length can change the ids."""
        return {}

    def log_lines(self, table: AnyTable) -> list[str]:
        """What of a table's stats the log should hold, in words."""
        skipped = table.stats.get("skipped", 0)
        words = {
            "truncated": (f"examples truncated to {self.max_len} tokens", len(table)),
            "skipped": ("examples left out as unusable", len(table) + skipped),
        }
        return [f"{table.stats[fact]} of {of} {text}" for fact, (text, of) in words.items() if table.stats.get(fact)]

    def prepare_data(self) -> None:
        """Tokenise every split once, before other ranks look."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        if not self.tables:
            self.tables = self._read()

    def raw(self, role: Role, split: str) -> RawTable:
        """A split's rows as they came, or those of the part of it that is named; `split` is our name of it."""
        part = Part.of(self.splits[role][split])
        return part.taken(self.source.load(self.rows.dataset, self.rows.subset, part.split, self.rows.revision))

    def _read(self) -> dict[Role, dict[str, AnyTable]]:
        """All splits. A local copy may come without its test split, whose labels are hidden anyway: that one is left out."""
        tables: dict[Role, dict[str, AnyTable]] = {}
        for role, names in self.splits.items():
            tables[role] = {}
            for ours, theirs in names.items():
                try:
                    tables[role][ours] = self._table(role, ours)
                except AbsentSplitError as error:
                    if role != "test" or not self.splits["train"]:
                        raise
                    log.info("%s: no predictions for %s", error, theirs)
        return tables

    def _table(self, role: Role, split: str) -> AnyTable:
        raw = self.raw(role, split)

        def write() -> AnyTable:
            table = self.write(raw, role)
            return table.with_stats(origin=raw.origin, digest=raw.digest[:16])

        settings: dict[str, Any] = {
            "data": raw.digest,
            "tokenizer": self.tokenizer.digest,
            "template": repr(self.template),
            "kind": type(self).__qualname__,
            "max_len": self.max_len,
            "role": role,
            "on_bad_row": self.on_bad_row,
            "rows": repr(self.rows),
            **self.settings(),
        }
        classes = (type(self), type(self.rows), type(self.template))
        if code := outside_digest(Path(inspect.getfile(each)) for each in classes):
            settings["code"] = code  # that of the package is a part of every key
        table = cached(self.cache, settings, write, self.table)
        for words in self.log_lines(table):  # type: ignore[arg-type]
            log.info("%s: %s", raw.origin, words)
        return table  # type: ignore[return-value]

    def train_dataloader(self) -> BatchLoader | list[Any]:
        tables = self.tables["train"]
        return self._loader(tables[""], self.batching, shuffle=True) if tables else []

    def val_dataloader(self) -> list[BatchLoader]:
        return [self._evaluation(table) for table in self.tables["validation"].values()]

    def test_dataloader(self) -> list[BatchLoader]:
        return [self._evaluation(table) for table in self.tables["test"].values()]

    def _evaluation(self, table: AnyTable) -> BatchLoader:
        ranks = self.batching.ranks
        batching = Batching(self.batching.evaluation_rows, rank=self.batching.rank, ranks=ranks)
        return self._loader(table, batching, shuffle=False)

    def _loader(self, table: AnyTable, batching: Batching, *, shuffle: bool) -> BatchLoader:
        sampler = BatchSampler(table.lengths, batching, shuffle=shuffle)
        return BatchLoader(sampler, self.collate(table), batching.workers)
