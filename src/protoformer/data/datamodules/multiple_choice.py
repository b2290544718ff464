"""Data module for multiple choice: every choice is encoded as a pair with the context.

Of a context in several parts (an article and a question on it) the last part keeps its tokens where the pair is too long, and
the parts before it are cut at their end.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from protoformer.batches import ChoiceBatch
from protoformer.data.batching.padding import pad_examples
from protoformer.data.cache import TokenTable
from protoformer.data.datamodules.table import TableDataModule, skipped_stats, stat_lines
from protoformer.data.examples.multiple_choice import MultipleChoiceExamples
from protoformer.data.sources.source import RawTable, Role
from protoformer.text.templates import EncodedExamples


class MultipleChoiceDataModule(TableDataModule[TokenTable]):
    """Its reader is a MultipleChoiceReader, its template a TextTemplate."""

    template_method: ClassVar[str] = "encode_texts"
    table_class = TokenTable

    def encode(self, raw: RawTable, role: Role) -> TokenTable:
        examples: MultipleChoiceExamples = self.reader.read(raw, role, self.on_bad_row)
        encoded, truncated = self._encode_pairs(examples)
        fewer = sum(len(texts) < len(self.reader.choices) for texts in examples.choices)
        return TokenTable(
            ids=encoded.ids,
            segment_ids=encoded.segment_ids,
            offsets=encoded.offsets,
            pooler_position=np.where(self._is_absent(examples), -1, encoded.pooler_position),
            labels=examples.labels,
            row=examples.row,
            stats={"truncated": truncated, "fewer": fewer, **skipped_stats(examples.skipped, examples.reasons)},
        )

    def _is_absent(self, examples: MultipleChoiceExamples) -> Bool[ndarray, "rows"]:
        """For each example and name of a choice, whether the example lacks it."""
        counts = np.asarray([len(texts) for texts in examples.choices])
        return (np.arange(len(self.reader.choices)) >= counts[:, None]).ravel()

    def _encode_pairs(self, examples: MultipleChoiceExamples) -> tuple[EncodedExamples, int]:
        """Each context with each of its choices, example by example, and how many of these pairs were truncated.

        A choice that an example lacks is a pair without text.
        """
        is_absent = self._is_absent(examples)
        choices_per_example = len(self.reader.choices)

        def without_absent(encoded: list[list[int]]) -> list[list[int]]:
            return [[] if absent else ids for ids, absent in zip(encoded, is_absent, strict=True)]

        def encode_repeated(texts: list[str]) -> list[list[int]]:
            return without_absent([ids for ids in self.tokenizer.encode(texts) for _ in range(choices_per_example)])

        contexts = encode_repeated(examples.contexts)
        padded = [[*texts, *[""] * (choices_per_example - len(texts))] for texts in examples.choices]
        choices = self.tokenizer.encode([text for texts in padded for text in texts])
        if examples.last_part is None:
            encoded = self.template.encode_texts(contexts, choices, self.max_len)
            return encoded, encoded.truncated
        # a space before it: in a byte-level vocabulary it belongs to the word
        last_parts = encode_repeated([f" {text}" for text in examples.last_part])
        special_tokens = len(self.template.encode_texts([[]], [[]], self.max_len).ids)
        truncated = 0
        whole_contexts = []
        for first_part, last_part, choice in zip(contexts, last_parts, choices, strict=True):
            budget = self.max_len - special_tokens - len(last_part) - len(choice)
            truncated += int(len(first_part) > budget)
            whole_contexts.append(first_part[: max(0, budget)] + last_part)
        return self.template.encode_texts(whole_contexts, choices, self.max_len), truncated

    def log_lines(self, table: TokenTable) -> list[str]:
        return stat_lines(
            table,
            truncated=(len(table.pooler_position), f"pairs truncated to {self.max_len} tokens"),
            skipped=(len(table) + table.stats.get("skipped", 0), "examples left out as unusable"),
            fewer=(len(table), f"examples have fewer than {len(self.reader.choices)} choices"),
        )

    def collate(self, table: TokenTable) -> "MultipleChoiceCollate":
        return MultipleChoiceCollate(table, self.template.pad_id)

    def texts(self, role: Role, split: str) -> list[str]:
        columns = self.text_columns(role, split)
        return [" | ".join((context, *choices)) for context, choices in zip(*columns.values(), strict=True)]

    def text_columns(self, role: Role, split: str) -> Mapping[str, Sequence[Any]]:
        """The context, its parts joined, and the list of choices."""
        examples = self._examples(role, split)
        last_parts = examples.last_part or [""] * len(examples.contexts)
        contexts = [" ".join(filter(None, parts)) for parts in zip(examples.contexts, last_parts, strict=True)]
        return {"context": contexts, "choices": examples.choices}

    def passages(self, role: Role, split: str) -> Sequence[str] | None:
        """The context without its last column, the question."""
        examples = self._examples(role, split)
        return None if examples.last_part is None else examples.contexts

    def _examples(self, role: Role, split: str) -> MultipleChoiceExamples:
        examples: MultipleChoiceExamples = self.reader.read(self.raw(role, split), "test", "skip")
        return examples


class MultipleChoiceCollate:
    """Example indices -> one batch, all choices padded to the longest."""

    def __init__(self, table: TokenTable, pad_id: int) -> None:
        self.table, self.pad_id = table, pad_id

    def __call__(self, indices: list[int]) -> ChoiceBatch:
        return ChoiceBatch(**pad_examples(self.table, indices, self.pad_id))
