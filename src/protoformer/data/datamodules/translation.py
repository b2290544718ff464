"""Data module for texts and their translations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray

from protoformer.batches import TranslationBatch
from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.padding import pad, split
from protoformer.data.batching.samplers import BatchConfig, decode_dummies
from protoformer.data.batching.token_budget import TokenBudgetSampler
from protoformer.data.cache import Table
from protoformer.data.datamodules.table import TableDataModule, skipped_stats
from protoformer.data.examples.parallel_text import ParallelExamples
from protoformer.data.sources.source import RawTable, Role
from protoformer.errors import DataError
from protoformer.text.encoder_decoder.translation_template import EncodedPairs
from protoformer.text.tokenizers import Tokenizer

PAIRS_PER_CHUNK = 100_000  # pairs that are tokenised at once


class PairTemplate(Protocol):
    """A template that encodes texts and their translations."""

    pad_id: int
    bos_id: int
    eos_id: int
    suppressed_ids: list[int]

    def encode_pairs(self, sources: list[list[int]], targets: list[list[int]], max_len: int) -> EncodedPairs: ...


@dataclass(frozen=True)
class PairTable(Table):
    """Sources in `ids`, targets in `target_ids` by `target_offsets`; each ends in eos."""

    target_ids: Int[ndarray, "target_tokens"]
    target_offsets: Int[ndarray, "rows_1"]

    @property
    def target_lengths(self) -> Int[ndarray, "rows"]:
        return np.diff(self.target_offsets)


@dataclass(frozen=True)
class ParallelTextReferences:
    """What an evaluation needs besides its batches: how to generate, and the texts of all rows by their row numbers.

    `language` is the target's.
    """

    tokenizer: Tokenizer
    template: PairTemplate
    language: str
    sources: list[str]
    targets: list[str]
    row: list[int]


class TranslationDataModule(TableDataModule[PairTable]):
    """Its reader is a ParallelTextReader, its template a PairTemplate.

    Training pairs with a side over `max_len` tokens are left out and counted; in other splits such a side is truncated and
    counted.
    """

    template_method: ClassVar[str] = "encode_pairs"
    table_class = PairTable
    incomplete_data: ClassVar[Mapping[str, str]] = {
        "truncated": "truncated rows",
        "skipped": "rows left out",
        "too_long": "pairs left out as too long",
    }

    def encode(self, raw: RawTable, role: Role) -> PairTable:
        examples: ParallelExamples = self.reader.read(raw, role, self.on_bad_row)
        chunks, too_long = [], 0
        for start in range(0, len(examples.row), PAIRS_PER_CHUNK):
            chunk = slice(start, start + PAIRS_PER_CHUNK)
            sources = self.tokenizer.encode(examples.sources[chunk])
            targets = self.tokenizer.encode_targets(examples.targets[chunk])
            # `<`: with eos
            fits = [
                max(len(source), len(target)) < self.max_len for source, target in zip(sources, targets, strict=True)
            ]
            too_long += len(fits) - sum(fits)
            if role == "train":
                sources = [source for source, fit in zip(sources, fits, strict=True) if fit]
                targets = [target for target, fit in zip(targets, fits, strict=True) if fit]
            chunks.append(self.template.encode_pairs(sources, targets, self.max_len))
        table = _concatenated(chunks)
        if not len(table):
            raise DataError(f"{raw.origin}: every pair has a side of more than task.max_len={self.max_len} tokens")
        stat = "too_long" if role == "train" else "truncated"
        return table.with_stats(**skipped_stats(examples.skipped, examples.reasons), **{stat: too_long})

    def log_lines(self, table: PairTable) -> list[str]:
        lines = super().log_lines(table)
        if too_long := table.stats.get("too_long"):
            pairs = "1 pair" if too_long == 1 else f"{too_long} pairs"
            lines.append(f"{pairs} left out: a side has more than {self.max_len} tokens (task.max_len)")
        return lines

    def collate(self, table: PairTable) -> "TranslationCollate":
        return TranslationCollate(table, self.template.pad_id, self.template.bos_id)

    def references(self, role: Role, split: str) -> ParallelTextReferences:
        examples = self._examples(role, split)
        return ParallelTextReferences(
            self.tokenizer,
            self.template,
            self.reader.target,
            examples.sources,
            examples.targets,
            examples.row.tolist(),
        )

    def texts(self, role: Role, split: str) -> list[str]:
        """Sources of a split, in the order of its examples."""
        return self._examples(role, split).sources

    def _examples(self, role: Role, split: str) -> ParallelExamples:
        return self.reader.read(self.raw(role, split), role, self.on_bad_row)

    def _loader(self, table: PairTable, config: BatchConfig, *, shuffle: bool) -> BatchLoader:
        if not shuffle or config.order != "tokens":
            return super()._loader(table, config, shuffle=shuffle)
        sampler = TokenBudgetSampler(table.lengths, table.target_lengths, config)
        return BatchLoader(sampler, self.collate(table), config.workers)


def _concatenated(chunks: Sequence[EncodedPairs]) -> PairTable:
    def offsets(each: Sequence[ndarray]) -> Int[ndarray, "rows_1"]:
        return np.concatenate([[0], np.cumsum(np.concatenate([np.diff(one) for one in each]))])

    return PairTable(
        ids=np.concatenate([chunk.ids for chunk in chunks]),
        segment_ids=np.zeros(0, dtype=np.uint8),
        offsets=offsets([chunk.offsets for chunk in chunks]),
        target_ids=np.concatenate([chunk.target_ids for chunk in chunks]),
        target_offsets=offsets([chunk.target_offsets for chunk in chunks]),
    )


class TranslationCollate:
    """Pair indices -> one padded batch; `example_ids` are pair indices, which references go by."""

    def __init__(self, table: PairTable, pad_id: int, bos_id: int) -> None:
        self.table, self.pad_id, self.bos_id = table, pad_id, bos_id

    def __call__(self, indices: list[int]) -> TranslationBatch:
        pairs, is_real = decode_dummies(indices)
        table = self.table
        ids, padding_mask = pad(split(table.ids, table.offsets, pairs), self.pad_id)
        targets, decoder_mask = pad(split(table.target_ids, table.target_offsets, pairs), self.pad_id)
        # the decoder reads the targets shifted right
        bos = np.full((len(pairs), 1), self.bos_id, dtype=np.int64)
        decoder_ids = np.concatenate([bos, targets[:, :-1]], axis=1)
        counted = decoder_mask & np.asarray(is_real)[:, None]
        return TranslationBatch(
            ids=torch.from_numpy(ids),
            padding_mask=torch.from_numpy(padding_mask),
            decoder_ids=torch.from_numpy(decoder_ids),
            decoder_mask=torch.from_numpy(decoder_mask),
            target_ids=torch.from_numpy(np.where(counted, targets, -1)),
            example_ids=torch.from_numpy(np.where(is_real, np.asarray(pairs), -1)),
        )
