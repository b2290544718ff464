"""Data module for classification and regression of texts and pairs of texts.

Symmetric pairs are encoded in both orders where the model's template says so (Radford et al. 2018, section 3.3); then an
example has two sequences.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from protoformer.batches import ClassificationBatch
from protoformer.data.batching.padding import pad_examples
from protoformer.data.cache import TokenTable
from protoformer.data.datamodules.table import TableDataModule, skipped_stats
from protoformer.data.examples.labelled import LabelledExamples
from protoformer.data.sources.source import RawTable, Role
from protoformer.text.templates import EncodedExamples


class TextTemplate(Protocol):
    """A template that encodes texts and pairs of texts."""

    pad_id: int
    both_orders: bool

    def encode_texts(self, a: list[list[int]], b: list[list[int]] | None, max_len: int) -> EncodedExamples: ...


class ClassificationDataModule(TableDataModule[TokenTable]):
    """Its reader is a LabelledTextReader, its template a TextTemplate."""

    template_method: ClassVar[str] = "encode_texts"
    table_class = TokenTable

    def encode(self, raw: RawTable, role: Role) -> TokenTable:
        examples: LabelledExamples = self.reader.read(raw, role, self.on_bad_row)
        a = self.tokenizer.encode(examples.text_a)
        b = None if examples.text_b is None else self.tokenizer.encode(examples.text_b)
        orders = 1
        if b is not None and self.reader.symmetric and self.template.both_orders:
            a, b, orders = _interleaved(a, b), _interleaved(b, a), 2
        encoded = self.template.encode_texts(a, b, self.max_len)
        return TokenTable(
            ids=encoded.ids,
            segment_ids=encoded.segment_ids,
            offsets=encoded.offsets,
            pooler_position=encoded.pooler_position,
            labels=examples.labels,
            row=examples.row,
            stats={"truncated": encoded.truncated // orders, **skipped_stats(examples.skipped, examples.reasons)},
        )

    def collate(self, table: TokenTable) -> "ClassificationCollate":
        return ClassificationCollate(table, self.template.pad_id)

    def text_columns(self, role: Role, split: str) -> Mapping[str, Sequence[str]]:
        examples: LabelledExamples = self.reader.read(self.raw(role, split), "test", "skip")
        columns = {self.reader.text_a: examples.text_a}
        return columns if examples.text_b is None else columns | {str(self.reader.text_b): examples.text_b}

    def texts(self, role: Role, split: str) -> list[str]:
        """The texts of every row as the source gives them; pairs are joined by a bar."""
        examples: LabelledExamples = self.reader.read(
            self.raw(role, split), "test", "skip"
        )  # all rows, by their numbers
        columns = [examples.text_a] if examples.text_b is None else [examples.text_a, examples.text_b]
        return [" | ".join(texts) for texts in zip(*columns, strict=True)]


def _interleaved(first: list[list[int]], second: list[list[int]]) -> list[list[int]]:
    return [ids for pair in zip(first, second, strict=True) for ids in pair]


class ClassificationCollate:
    """Example indices -> one padded batch."""

    def __init__(self, table: TokenTable, pad_id: int) -> None:
        self.table, self.pad_id = table, pad_id

    def __call__(self, indices: list[int]) -> ClassificationBatch:
        return ClassificationBatch(**pad_examples(self.table, indices, self.pad_id))
