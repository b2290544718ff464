"""Batches for one text and several ways to go on from it: every choice is written as a pair with the text."""

from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray

from protoformer.batches import ChoiceBatch
from protoformer.data.collating import padded
from protoformer.data.datamodule import TableDataModule
from protoformer.data.rows import ChoiceExamples, Role
from protoformer.data.samplers import fillers
from protoformer.data.sources import RawTable
from protoformer.data.token_cache import TokenTable


class ChoiceTable(TokenTable):
    """Rows are examples; choice c of example i stands in row i x choices + c of the flat arrays."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def choices(self) -> int:
        return len(self.pooler_position) // len(self.labels)

    @property
    def lengths(self) -> Int[ndarray, "examples"]:
        """Tokens of all choices of each example."""
        return np.diff(self.offsets).reshape(-1, self.choices).sum(1)


class MultipleChoiceDataModule(TableDataModule[ChoiceTable]):
    """`rows` is a Choices, `format` a TextsFormat."""

    writes: ClassVar[str] = "texts"
    table = ChoiceTable

    def write(self, raw: RawTable, role: Role) -> ChoiceTable:
        examples: ChoiceExamples = self.rows.read(raw, role, self.on_bad_row)
        count = len(self.rows.choices)
        contexts = [ids for ids in self.tokenizer.encode(examples.contexts) for _ in range(count)]
        endings = self.tokenizer.encode([text for texts in examples.choices for text in texts])
        written = self.format.texts(contexts, endings, self.max_len)
        return ChoiceTable(
            ids=written.ids,
            segment_ids=written.segment_ids,
            offsets=written.offsets,
            pooler_position=written.pooler_position,
            labels=examples.labels,
            row=examples.row,
            facts={"truncated": written.truncated, "skipped": examples.skipped},
        )

    def told(self, table: ChoiceTable) -> list[str]:
        words = {
            "truncated": (f"pairs truncated to {self.max_len} tokens", len(table.pooler_position)),
            "skipped": ("examples left out as unusable", len(table)),
        }
        return [f"{table.facts[fact]} of {of} {text}" for fact, (text, of) in words.items() if table.facts.get(fact)]

    def collate(self, table: ChoiceTable) -> "Collate":
        return Collate(table, self.format.pad_id)

    def texts(self, role: Role, split: str) -> list[str]:
        examples: ChoiceExamples = self.rows.read(self.raw(role, split), "test", "skip")
        return [" | ".join((text, *more)) for text, more in zip(examples.contexts, examples.choices, strict=True)]


class Collate:
    """Row numbers -> one batch, all choices padded to the longest."""

    def __init__(self, table: ChoiceTable, pad_id: int) -> None:
        self.table, self.pad_id = table, pad_id

    def __call__(self, indices: list[int]) -> ChoiceBatch:
        chosen, real = fillers(indices)
        table, count = self.table, self.table.choices
        flat = (np.asarray(chosen)[:, None] * count + np.arange(count)).ravel()
        rectangles = padded(table, flat.tolist(), self.pad_id)
        shape = (len(chosen), count)
        return ChoiceBatch(
            ids=rectangles["ids"].unflatten(0, shape),
            padding_mask=rectangles["padding_mask"].unflatten(0, shape),
            segment_ids=rectangles["segment_ids"].unflatten(0, shape),
            pooler_position=torch.from_numpy(table.pooler_position[flat].astype(np.int64)).unflatten(0, shape),
            example_ids=torch.from_numpy(np.where(real, table.row[chosen], -1)),
            labels=torch.from_numpy(np.asarray(table.labels[chosen])),
        )
