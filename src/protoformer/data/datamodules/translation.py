"""Batches of texts and their translations."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray

from protoformer.batches import TranslationBatch
from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.samplers import Batching, fillers
from protoformer.data.batching.token_budget import TokenBudgetSampler
from protoformer.data.cache import Table
from protoformer.data.datamodules.table import TableDataModule
from protoformer.data.examples.pairs import PairExamples
from protoformer.data.sources.source import RawTable, Role
from protoformer.errors import DataError
from protoformer.text.tokenizers import Tokenizer
from protoformer.text.translation_template import EncodedPairs

log = logging.getLogger(__name__)
TOGETHER = 100_000  # pairs that are tokenised at once


class PairTemplate(Protocol):
    """A template that writes texts and their translations."""

    pad_id: int
    bos_id: int
    eos_id: int
    suppressed_ids: list[int]

    def encode_pairs(self, sources: list[list[int]], targets: list[list[int]], max_len: int) -> EncodedPairs: ...


@dataclass(frozen=True)
class PairTable(Table):
    """Sources in `ids`, targets in `target_ids`, by `target_offsets`; each with its end."""

    target_ids: Int[ndarray, "target_tokens"]
    target_offsets: Int[ndarray, "rows_1"]

    @property
    def target_lengths(self) -> Int[ndarray, "rows"]:
        return np.diff(self.target_offsets)


@dataclass(frozen=True)
class Translations:
    """What an evaluation needs besides its batches: how to write, the texts of all rows, and their numbers in the file."""

    tokenizer: Tokenizer
    template: PairTemplate
    language: str  # that is translated into
    sources: list[str]
    targets: list[str]
    row: list[int]


class TranslationDataModule(TableDataModule[PairTable]):
    """`rows` is a ParallelTextReader, `template` a PairTemplate.

    Training pairs with a side over `max_len` tokens are left out and counted; in other splits such a side is
    truncated and counted.
    """

    template_method: ClassVar[str] = "encode_pairs"
    table = PairTable
    incomplete_data: ClassVar[Mapping[str, str]] = {
        "truncated": "truncated rows",
        "skipped": "rows left out",
        "too_long": "pairs left out as too long",
    }

    def write(self, raw: RawTable, role: Role) -> PairTable:
        examples: PairExamples = self.rows.read(raw, role, self.on_bad_row)
        parts, long = [], 0
        for start in range(0, len(examples.row), TOGETHER):
            some = slice(start, start + TOGETHER)
            sides = [
                self.tokenizer.encode(examples.sources[some]),
                self.tokenizer.encode_targets(examples.targets[some]),
            ]
            fits = np.asarray([max(map(len, pair)) < self.max_len for pair in zip(*sides, strict=True)])
            long += int((~fits).sum())
            chosen = np.flatnonzero(fits) if role == "train" else np.arange(len(fits))
            parts.append(self.template.encode_pairs(*([side[i] for i in chosen] for side in sides), self.max_len))
        table = _joined(parts)
        if not len(table):
            raise DataError(f"{raw.origin}: every pair has a side of more than task.max_len={self.max_len} tokens")
        fact = "too_long" if role == "train" else "truncated"
        return table.with_stats(**{"skipped": examples.skipped, fact: long})

    def log_lines(self, table: PairTable) -> list[str]:
        words = super().log_lines(table)
        if long := table.stats.get("too_long"):
            words.append(
                f"{long} pair{'s' * (long != 1)} left out: a side has more than {self.max_len} tokens (task.max_len)"
            )
        return words

    def collate(self, table: PairTable) -> "Collate":
        return Collate(table, self.template.pad_id, self.template.bos_id)

    def references(self, role: Role, split: str) -> Translations:
        examples = self.rows.read(self.raw(role, split), role, self.on_bad_row)
        texts = examples.sources, examples.targets
        return Translations(self.tokenizer, self.template, self.rows.target, *texts, examples.row.tolist())

    def texts(self, role: Role, split: str) -> list[str]:
        """Sources of a split, in the order of its examples."""
        return self.rows.read(self.raw(role, split), role, self.on_bad_row).sources

    def _loader(self, table: PairTable, batching: Batching, *, shuffle: bool) -> BatchLoader:
        if not shuffle or batching.order != "tokens":
            return super()._loader(table, batching, shuffle=shuffle)
        sampler = TokenBudgetSampler(table.lengths, table.target_lengths, batching)
        return BatchLoader(sampler, self.collate(table), batching.workers)


def _joined(parts: list[EncodedPairs]) -> PairTable:
    def offsets(each: list[Any]) -> Int[ndarray, "rows_1"]:
        return np.concatenate([[0], np.cumsum(np.concatenate([np.diff(one) for one in each]))])

    ids = np.concatenate([part.ids for part in parts])
    return PairTable(
        ids=ids,
        segment_ids=np.zeros(0, dtype=np.uint8),
        offsets=offsets([part.offsets for part in parts]),
        target_ids=np.concatenate([part.target_ids for part in parts]),
        target_offsets=offsets([part.target_offsets for part in parts]),
    )


class Collate:
    """Numbers of pairs -> one batch; `example_ids` are numbers of pairs, which references go by."""

    def __init__(self, table: PairTable, pad_id: int, start: int) -> None:
        self.table, self.pad_id, self.start = table, pad_id, start

    def __call__(self, indices: list[int]) -> TranslationBatch:
        chosen, real = fillers(indices)
        table = self.table
        ids, mask = self._rectangle(chosen, table.ids, table.offsets)
        told, target_mask = self._rectangle(chosen, table.target_ids, table.target_offsets)
        shifted = np.concatenate([np.full((len(chosen), 1), self.start, dtype=np.int64), told[:, :-1]], axis=1)
        counted = target_mask & np.asarray(real)[:, None]
        return TranslationBatch(
            ids=torch.from_numpy(ids),
            padding_mask=torch.from_numpy(mask),
            decoder_ids=torch.from_numpy(shifted),
            decoder_mask=torch.from_numpy(target_mask),
            target_ids=torch.from_numpy(np.where(counted, told, -1)),
            example_ids=torch.tensor([number if there else -1 for number, there in zip(chosen, real, strict=True)]),
        )

    def _rectangle(self, chosen: list[int], flat: ndarray, offsets: ndarray) -> tuple[ndarray, ndarray]:
        starts, ends = offsets[chosen], offsets[np.asarray(chosen) + 1]
        mask = np.arange(int((ends - starts).max())) < (ends - starts)[:, None]
        ids = np.full(mask.shape, self.pad_id, dtype=np.int64)
        ids[mask] = np.concatenate(list(_pieces(flat, starts, ends)))
        return ids, mask


def _pieces(flat: ndarray, starts: ndarray, ends: ndarray) -> Iterator[ndarray]:
    for start, end in zip(starts, ends, strict=True):
        yield flat[start:end]
