"""Base of the data modules whose splits are encoded as tables of examples: token caches, batch loaders."""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import lightning.pytorch as pl
import numpy as np
from numpy import ndarray

from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.samplers import BatchConfig, MicroBatchSampler
from protoformer.data.cache import Table, cached
from protoformer.data.datamodules.context import DataContext
from protoformer.data.examples.columns import OnBadRow, counted
from protoformer.data.selection import SplitSelection
from protoformer.data.sources.source import RawTable, Role
from protoformer.errors import AbsentSplitError
from protoformer.runs.digests import outside_digest

log = logging.getLogger(__name__)
AnyTable = TypeVar("AnyTable", bound=Table)
ROLES: tuple[Role, ...] = ("train", "validation", "test")


class TableDataModule(pl.LightningDataModule, Generic[AnyTable]):
    """After `setup`, `tables` holds the encoded splits by role and our name of the split.

    A kind of task says how rows are encoded (`encode`) and how rows of a table become a batch (`collate`).
    """

    template_method: ClassVar[str]  # the template's method that this kind needs
    table_class: ClassVar[type[Table]]
    # stats of a table that count what was not used whole -> what a report calls them
    incomplete_data: ClassVar[Mapping[str, str]] = {"truncated": "truncated rows", "skipped": "rows left out"}

    left_to_right = False  # whether a target is the token after the position that predicts it

    def __init__(self, context: DataContext, *, on_bad_row: OnBadRow = "error") -> None:
        super().__init__()
        self.reader, self.source, self.cache = context.reader, context.source, context.cache
        self.tokenizer, self.template, self.max_len = context.tokenizer, context.template, context.max_len
        self.batch_config, self.on_bad_row = context.batch_config, on_bad_row
        self.splits = {role: context.splits_of(role) for role in ROLES}
        self.tables: dict[Role, dict[str, AnyTable]] = {}
        # of each split or part of splits: their names, and its rows in them
        self._parts: dict[tuple[Role, str], tuple[list[str], ndarray]] = {}

    def encode(self, raw: RawTable, role: Role) -> AnyTable:
        """Rows as ids; `stats` count what was truncated, skipped, ..."""
        raise NotImplementedError

    def collate(self, table: AnyTable) -> Callable[[list[int]], Any]:
        """The function from row numbers of `table` (or dummies) to a batch."""
        raise NotImplementedError

    def references(self, role: Role, split: str) -> Any:
        """What an evaluation of the split needs besides its batches, after `setup`; None for nothing."""
        return None

    def text_columns(self, role: Role, split: str) -> Mapping[str, Sequence[object]]:
        """The texts of a split's examples by column, each indexed by the id of a row of predictions; empty: none are kept."""
        return {}

    def passages(self, role: Role, split: str) -> Sequence[str] | None:
        """The passage of each example, by id, where several may share one and so depend on each other; None: none do."""
        return None

    def overlap_columns(self, role: Role, split: str) -> Mapping[str, Sequence[object]]:
        """The texts of a split that a training corpus is searched for, by column."""
        return self.text_columns(role, split)

    def texts(self, role: Role, split: str) -> list[str]:
        """The text of every example of a split in one line, for a list of misclassified examples."""
        raise NotImplementedError

    def cache_settings(self) -> dict[str, object]:
        """What else can change the ids, besides reader, tokenizer, template and length."""
        return {}

    def log_lines(self, table: AnyTable) -> list[str]:
        """Messages about a table's stats."""
        skipped = table.stats.get("skipped", 0)
        return stat_lines(
            table,
            truncated=(len(table), f"examples truncated to {self.max_len} tokens"),
            skipped=(len(table) + skipped, "examples left out as unusable"),
        )

    def prepare_data(self) -> None:
        """Encode every split once, before the other ranks read it."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        if not self.tables:
            self.tables = {role: self._tables(role) for role in ROLES}
            self._warn_of_training_rows()

    def _warn_of_training_rows(self) -> None:
        trained_on = {table.stats["digest"] for table in self.tables["train"].values()}
        for role in ("validation", "test"):
            for name, table in self.tables[role].items():
                if table.stats["digest"] in trained_on:
                    log.warning("%s: its rows are those that are trained on (%s)", table.stats["origin"], role)
                elif shared := self._rows_in_both(role, name):
                    log.warning("%s: %d of its rows are trained on, too (%s)", table.stats["origin"], shared, role)

    def _rows_in_both(self, role: Role, split: str) -> int:
        """Rows of an evaluated part of a split that the training part of the same split has as well."""
        evaluated, trained = self._parts.get((role, split)), self._parts.get(("train", ""))
        if evaluated is None or trained is None or evaluated[0] != trained[0]:
            return 0
        return len(np.intersect1d(evaluated[1], trained[1]))

    def raw(self, role: Role, split: str) -> RawTable:
        """The rows of a split (or slice of one) as the source gives them; `split` is our name of it."""
        return SplitSelection.parse(self.splits[role][split]).load(self.source, self.reader)

    def _tables(self, role: Role) -> dict[str, AnyTable]:
        """All splits of a role. An absent test split is left out: local copies may lack it, since its labels are hidden."""
        tables: dict[str, AnyTable] = {}
        for name, split in self.splits[role].items():
            try:
                tables[name] = self._table(role, name)
            except AbsentSplitError as error:
                if role != "test" or not (self.splits["train"] or self.splits["validation"]):
                    raise
                log.info("%s: no predictions for %s", error, split)
        return tables

    def _table(self, role: Role, split: str) -> AnyTable:
        raw = self.raw(role, split)
        self._parts[role, split] = SplitSelection.parse(self.splits[role][split]).splits, np.asarray(raw.row_numbers)
        settings: dict[str, object] = {
            "data": raw.digest,
            "tokenizer": self.tokenizer.digest,
            "template": repr(self.template),
            "kind": type(self).__qualname__,
            "max_len": self.max_len,
            "role": role,
            "on_bad_row": self.on_bad_row,
            "reader": repr(self.reader),
            **self.cache_settings(),
        }
        classes = (type(self), type(self.reader), type(self.template))
        if code := outside_digest(Path(inspect.getfile(each)) for each in classes):
            settings["code"] = code  # that of the package is a part of every key

        def encode() -> AnyTable:
            return self.encode(raw, role).with_stats(origin=raw.origin, digest=raw.digest[:16])

        table: AnyTable = cached(self.cache, settings, encode, self.table_class)  # type: ignore[assignment]  # of its class
        table = table.with_stats(
            origin=raw.origin, rows=raw.table.num_rows
        )  # the cached rows may come from another file with the same content
        for line in self.log_lines(table):
            log.info("%s: %s", raw.origin, line)
        return table

    def train_dataloader(self) -> BatchLoader | list[Any]:
        tables = self.tables["train"]
        return self._loader(tables[""], self.batch_config, shuffle=True) if tables else []

    def ordered_train_dataloader(self) -> BatchLoader:
        """The training split once, in the order of its rows, for an evaluation of it."""
        return self._loader(self.tables["train"][""], self.batch_config.for_evaluation(), shuffle=False)

    def val_dataloader(self) -> list[BatchLoader]:
        return self._eval_loaders("validation")

    def test_dataloader(self) -> list[BatchLoader]:
        return self._eval_loaders("test")

    def _eval_loaders(self, role: Role) -> list[BatchLoader]:
        config = self.batch_config.for_evaluation()
        return [self._loader(table, config, shuffle=False) for table in self.tables[role].values()]

    def _loader(self, table: AnyTable, config: BatchConfig, *, shuffle: bool) -> BatchLoader:
        sampler = MicroBatchSampler(table.lengths, config, shuffle=shuffle)
        return BatchLoader(sampler, self.collate(table), config.workers)


def skipped_stats(skipped: int, reasons: Mapping[str, int]) -> dict[str, object]:
    """The rows left out as stats: their number, and where it is not 0 why."""
    return {"skipped": skipped} | ({"skipped_by_reason": dict(reasons)} if reasons else {})


def stat_lines(table: Table, **messages: tuple[int, str]) -> list[str]:
    """`3 of 10 examples ...` for each stat that is not 0; `messages` give the total and the text by the stat's name."""
    lines: list[str] = []
    for stat, (total, text) in messages.items():
        if count := table.stats.get(stat):
            reasons = table.stats.get(f"{stat}_by_reason")
            lines.append(f"{count} of {total} {text}" + (f": {counted(reasons)}" if reasons else ""))
    return lines
