"""Batches for one label, or one number, a text or pair of texts."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import lightning.pytorch as pl
import numpy as np
import torch

from protoformer.batches import ClassificationBatch
from protoformer.data.loader import BatchLoader
from protoformer.data.rows import LabelledTexts, Role
from protoformer.data.samplers import Batching, BatchSampler, fillers
from protoformer.data.sources import Source
from protoformer.data.token_cache import TokenTable, cached
from protoformer.errors import AbsentSplitError
from protoformer.text.formats import Written
from protoformer.text.tokenizers import Tokenizer

log = logging.getLogger(__name__)
EVALUATION_ROWS = 64  # rows a rank evaluates at once


class TextsFormat(Protocol):
    """A format that writes texts and pairs of texts."""

    pad_id: int

    def texts(self, a: list[list[int]], b: list[list[int]] | None, max_len: int) -> Written: ...


def named_splits(splits: str | Mapping[str, str] | None) -> dict[str, str]:
    """Our names of a stage's splits -> the data set's; a single one has the empty name."""
    if splits is None:
        return {}
    return {"": splits} if isinstance(splits, str) else dict(splits)


class ClassificationDataModule(pl.LightningDataModule):
    """Rows -> canonical examples -> cached ids -> batches, for every split of a task.

    `tables` holds, after `setup`, the tokenised splits by stage and our name of the split.
    """

    writes: ClassVar[str] = "texts"  # the format method that this kind needs

    def __init__(
        self,
        *,
        rows: LabelledTexts,
        splits: Mapping[str, str | Mapping[str, str] | None],
        source: Source,
        tokenizer: Tokenizer,
        format: TextsFormat,
        max_len: int,
        batching: Batching,
        cache: Path,
        on_bad_row: Literal["error", "skip"] = "error",
    ) -> None:
        super().__init__()
        self.rows, self.source, self.tokenizer, self.format = rows, source, tokenizer, format
        self.max_len, self.batching, self.cache, self.on_bad_row = max_len, batching, cache, on_bad_row
        self.splits: dict[Role, dict[str, str]] = {
            "train": named_splits(splits.get("train")),
            "validation": named_splits(splits.get("validation")),
            "test": named_splits(splits.get("test")),
        }
        self.tables: dict[Role, dict[str, TokenTable]] = {}

    def prepare_data(self) -> None:
        """Tokenise every split once, before other ranks look."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        if not self.tables:
            self.tables = self._read()

    def _read(self) -> dict[Role, dict[str, TokenTable]]:
        """All splits. A local copy may come without its test split, whose labels are hidden anyway: that one is left out."""
        tables: dict[Role, dict[str, TokenTable]] = {}
        for role, names in self.splits.items():
            tables[role] = {}
            for ours, theirs in names.items():
                try:
                    tables[role][ours] = self._table(role, theirs)
                except AbsentSplitError as error:
                    if role != "test" or not self.splits["train"]:
                        raise
                    log.info("%s: there will be no predictions for %s", error, theirs)
        return tables

    def _table(self, role: Role, split: str) -> TokenTable:
        raw = self.source.load(self.rows.dataset, self.rows.subset, split, self.rows.revision)

        def write() -> TokenTable:
            examples = self.rows.read(raw, role, self.on_bad_row)
            a = self.tokenizer.encode(examples.text_a)
            b = None if examples.text_b is None else self.tokenizer.encode(examples.text_b)
            written = self.format.texts(a, b, self.max_len)
            facts = {"truncated": written.truncated, "skipped": examples.skipped, "origin": raw.origin}
            return TokenTable(
                ids=written.ids,
                segment_ids=written.segment_ids,
                offsets=written.offsets,
                pooler_position=written.pooler_position,
                labels=examples.labels,
                row=examples.row,
                facts={**facts, "digest": raw.digest[:16]},
            )

        settings: dict[str, Any] = {
            "data": raw.digest,
            "tokenizer": self.tokenizer.digest,
            "format": type(self.format).__qualname__,
            "max_len": self.max_len,
            "role": role,
            "on_bad_row": self.on_bad_row,
            "rows": repr(self.rows),
        }
        table = cached(self.cache, settings, write)
        for fact, words in (("truncated", f"truncated to {self.max_len} tokens"), ("skipped", "left out as unusable")):
            if table.facts[fact]:
                log.info("%s: %d of %d examples %s", raw.origin, table.facts[fact], len(table), words)
        return table

    def texts(self, role: Role, split: str) -> list[str]:
        """The text of every row of a split, as it came; pairs joined by a bar."""
        theirs = self.splits[role][split]
        table = self.source.load(self.rows.dataset, self.rows.subset, theirs, self.rows.revision).table
        columns = [table.column(name).to_pylist() for name in (self.rows.text_a, self.rows.text_b) if name]
        return [" | ".join(str(text) for text in texts) for texts in zip(*columns, strict=True)]

    def train_dataloader(self) -> BatchLoader | list[Any]:
        tables = self.tables["train"]
        return self._loader(tables[""], self.batching, shuffle=True) if tables else []

    def val_dataloader(self) -> list[BatchLoader]:
        return [self._evaluation(table) for table in self.tables["validation"].values()]

    def test_dataloader(self) -> list[BatchLoader]:
        return [self._evaluation(table) for table in self.tables["test"].values()]

    def _evaluation(self, table: TokenTable) -> BatchLoader:
        ranks = self.batching.ranks
        batching = Batching(EVALUATION_ROWS * ranks, rank=self.batching.rank, ranks=ranks)
        return self._loader(table, batching, shuffle=False)

    def _loader(self, table: TokenTable, batching: Batching, *, shuffle: bool) -> BatchLoader:
        sampler = BatchSampler(table.lengths, batching, shuffle=shuffle)
        return BatchLoader(sampler, Collate(table, self.format.pad_id), batching.workers)


class Collate:
    """Row numbers -> one padded batch."""

    def __init__(self, table: TokenTable, pad_id: int) -> None:
        self.table, self.pad_id = table, pad_id

    def __call__(self, indices: list[int]) -> ClassificationBatch:
        chosen, real = fillers(indices)
        starts, ends = self.table.offsets[chosen], self.table.offsets[np.asarray(chosen) + 1]
        shape = (len(chosen), int((ends - starts).max()))
        ids = np.full(shape, self.pad_id, dtype=np.int64)
        segment_ids = np.zeros(shape, dtype=np.int64)
        padding_mask = np.zeros(shape, dtype=bool)
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            ids[number, : end - start] = self.table.ids[start:end]
            segment_ids[number, : end - start] = self.table.segment_ids[start:end]
            padding_mask[number, : end - start] = True
        example_ids = np.where(real, self.table.row[chosen], -1)
        return ClassificationBatch(
            ids=torch.from_numpy(ids),
            padding_mask=torch.from_numpy(padding_mask),
            segment_ids=torch.from_numpy(segment_ids),
            pooler_position=torch.from_numpy(self.table.pooler_position[chosen].astype(np.int64)),
            example_ids=torch.from_numpy(example_ids),
            labels=torch.from_numpy(np.asarray(self.table.labels[chosen])),
        )
