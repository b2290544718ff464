"""Batches for one label, or one number, a text or pair of texts."""

from typing import ClassVar, Protocol

import numpy as np
import torch

from protoformer.batches import ClassificationBatch
from protoformer.data.collating import padded
from protoformer.data.datamodule import TableDataModule
from protoformer.data.rows import Role
from protoformer.data.samplers import fillers
from protoformer.data.sources import RawTable
from protoformer.data.token_cache import TokenTable
from protoformer.text.formats import Written


class TextsFormat(Protocol):
    """A format that writes texts and pairs of texts."""

    pad_id: int

    def texts(self, a: list[list[int]], b: list[list[int]] | None, max_len: int) -> Written: ...


class ClassificationDataModule(TableDataModule[TokenTable]):
    """`rows` is a LabelledTexts, `format` a TextsFormat."""

    writes: ClassVar[str] = "texts"
    table = TokenTable

    def write(self, raw: RawTable, role: Role) -> TokenTable:
        examples = self.rows.read(raw, role, self.on_bad_row)
        a = self.tokenizer.encode(examples.text_a)
        b = None if examples.text_b is None else self.tokenizer.encode(examples.text_b)
        written = self.format.texts(a, b, self.max_len)
        return TokenTable(
            ids=written.ids,
            segment_ids=written.segment_ids,
            offsets=written.offsets,
            pooler_position=written.pooler_position,
            labels=examples.labels,
            row=examples.row,
            facts={"truncated": written.truncated, "skipped": examples.skipped},
        )

    def collate(self, table: TokenTable) -> "Collate":
        return Collate(table, self.format.pad_id)

    def texts(self, role: Role, split: str) -> list[str]:
        """The text of every row of a split, as it came; pairs joined by a bar."""
        table = self.raw(role, split).table
        columns = [table.column(name).to_pylist() for name in (self.rows.text_a, self.rows.text_b) if name]
        return [" | ".join(str(text) for text in texts) for texts in zip(*columns, strict=True)]


class Collate:
    """Row numbers -> one padded batch."""

    def __init__(self, table: TokenTable, pad_id: int) -> None:
        self.table, self.pad_id = table, pad_id

    def __call__(self, indices: list[int]) -> ClassificationBatch:
        chosen, real = fillers(indices)
        table = self.table
        return ClassificationBatch(
            **padded(table, chosen, self.pad_id),
            pooler_position=torch.from_numpy(table.pooler_position[chosen].astype(np.int64)),
            example_ids=torch.from_numpy(np.where(real, table.row[chosen], -1)),
            labels=torch.from_numpy(np.asarray(table.labels[chosen])),
        )
