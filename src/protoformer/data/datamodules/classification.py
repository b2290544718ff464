"""Batches for one label, or one number, a text or pair of texts.

A pair whose texts may change places is written in both orders where the model's template asks for it (Radford et al. 2018,
section 3.3): such batches have an axis `orders`.
"""

from typing import ClassVar, Protocol

from protoformer.batches import ClassificationBatch
from protoformer.data.batching.padding import labelled
from protoformer.data.cache import TokenTable
from protoformer.data.datamodules.table import TableDataModule
from protoformer.data.examples.labelled import LabelledExamples
from protoformer.data.sources.source import RawTable, Role
from protoformer.text.templates import EncodedExamples


class TextTemplate(Protocol):
    """A template that writes texts and pairs of texts."""

    pad_id: int
    both_orders: bool

    def encode_texts(self, a: list[list[int]], b: list[list[int]] | None, max_len: int) -> EncodedExamples: ...


class ClassificationDataModule(TableDataModule[TokenTable]):
    """`rows` is a LabelledTextReader, `template` a TextTemplate."""

    template_method: ClassVar[str] = "encode_texts"
    table = TokenTable

    def write(self, raw: RawTable, role: Role) -> TokenTable:
        examples: LabelledExamples = self.rows.read(raw, role, self.on_bad_row)
        a = self.tokenizer.encode(examples.text_a)
        b = None if examples.text_b is None else self.tokenizer.encode(examples.text_b)
        orders = 1
        if b is not None and self.rows.symmetric and self.template.both_orders:
            a, b, orders = _alternating(a, b), _alternating(b, a), 2
        written = self.template.encode_texts(a, b, self.max_len)
        return TokenTable(
            ids=written.ids,
            segment_ids=written.segment_ids,
            offsets=written.offsets,
            pooler_position=written.pooler_position,
            labels=examples.labels,
            row=examples.row,
            stats={"truncated": written.truncated // orders, "skipped": examples.skipped},
        )

    def collate(self, table: TokenTable) -> "Collate":
        return Collate(table, self.template.pad_id)

    def texts(self, role: Role, split: str) -> list[str]:
        """The text of every row of a split, as it came; pairs joined by a bar."""
        table = self.raw(role, split).table
        columns = [table.column(name).to_pylist() for name in (self.rows.text_a, self.rows.text_b) if name]
        return [" | ".join(str(text) for text in texts) for texts in zip(*columns, strict=True)]


def _alternating(one: list[list[int]], other: list[list[int]]) -> list[list[int]]:
    return [ids for pair in zip(one, other, strict=True) for ids in pair]


class Collate:
    """Row numbers -> one padded batch."""

    def __init__(self, table: TokenTable, pad_id: int) -> None:
        self.table, self.pad_id = table, pad_id

    def __call__(self, indices: list[int]) -> ClassificationBatch:
        batch = labelled(self.table, indices, self.pad_id)
        if self.table.sequences > 1:
            return ClassificationBatch(**batch)
        return ClassificationBatch(
            ids=batch["ids"].squeeze(1),
            padding_mask=batch["padding_mask"].squeeze(1),
            segment_ids=batch["segment_ids"].squeeze(1),
            pooler_position=batch["pooler_position"].squeeze(1),
            example_ids=batch["example_ids"],
            labels=batch["labels"],
        )
