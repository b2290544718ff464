"""Batches for one text and several ways to go on from it: every choice is written as a pair with the text.

Of a text in several parts (an article and a question on it) the last one keeps its tokens where room lacks, and the parts
before it are cut at their end.
"""

from typing import ClassVar

from protoformer.batches import ChoiceBatch
from protoformer.data.batching.padding import labelled
from protoformer.data.cache import TokenTable
from protoformer.data.datamodules.table import TableDataModule
from protoformer.data.examples.choices import ChoiceExamples
from protoformer.data.sources.source import RawTable, Role
from protoformer.text.templates import EncodedExamples


class MultipleChoiceDataModule(TableDataModule[TokenTable]):
    """`rows` is a MultipleChoiceReader, `template` a TextTemplate."""

    template_method: ClassVar[str] = "encode_texts"
    table = TokenTable

    def write(self, raw: RawTable, role: Role) -> TokenTable:
        examples: ChoiceExamples = self.rows.read(raw, role, self.on_bad_row)
        written, truncated = self._written(examples)
        return TokenTable(
            ids=written.ids,
            segment_ids=written.segment_ids,
            offsets=written.offsets,
            pooler_position=written.pooler_position,
            labels=examples.labels,
            row=examples.row,
            stats={"truncated": truncated, "skipped": examples.skipped},
        )

    def _written(self, examples: ChoiceExamples) -> tuple[EncodedExamples, int]:
        """Every choice after its context, example by example, and how many of these pairs lost tokens."""
        count = len(self.rows.choices)
        contexts = [ids for ids in self.tokenizer.encode(examples.contexts) for _ in range(count)]
        endings = self.tokenizer.encode([text for texts in examples.choices for text in texts])
        if examples.last is None:
            written = self.template.encode_texts(contexts, endings, self.max_len)
            return written, written.truncated
        # a space before it: in a vocabulary of bytes it is a part of the word
        last = [ids for ids in self.tokenizer.encode([f" {text}" for text in examples.last]) for _ in range(count)]
        room = self.max_len - len(self.template.encode_texts([[]], [[]], self.max_len).ids)
        spare = [room - len(kept) - len(ending) for kept, ending in zip(last, endings, strict=True)]
        truncated = sum(len(ids) > left for ids, left in zip(contexts, spare, strict=True))
        whole = [ids[: max(0, left)] + kept for ids, left, kept in zip(contexts, spare, last, strict=True)]
        return self.template.encode_texts(whole, endings, self.max_len), truncated

    def log_lines(self, table: TokenTable) -> list[str]:
        words = {
            "truncated": (f"pairs truncated to {self.max_len} tokens", len(table.pooler_position)),
            "skipped": ("examples left out as unusable", len(table) + table.stats.get("skipped", 0)),
        }
        return [f"{table.stats[fact]} of {of} {text}" for fact, (text, of) in words.items() if table.stats.get(fact)]

    def collate(self, table: TokenTable) -> "Collate":
        return Collate(table, self.template.pad_id)

    def texts(self, role: Role, split: str) -> list[str]:
        examples: ChoiceExamples = self.rows.read(self.raw(role, split), "test", "skip")
        contexts = zip(examples.contexts, examples.last or [""] * len(examples.contexts), strict=True)
        return [
            " | ".join((" ".join(filter(None, parts)), *more))
            for parts, more in zip(contexts, examples.choices, strict=True)
        ]


class Collate:
    """Row numbers -> one batch, all choices padded to the longest."""

    def __init__(self, table: TokenTable, pad_id: int) -> None:
        self.table, self.pad_id = table, pad_id

    def __call__(self, indices: list[int]) -> ChoiceBatch:
        return ChoiceBatch(**labelled(self.table, indices, self.pad_id))
