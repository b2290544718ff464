"""Data module for language modeling: running text in blocks (Radford et al. 2018, sections 3.1, 4.1; 2019, section 2).

The documents of a corpus are one stream, with an end-of-text token before the first and after each. Block i of length L reads
tokens i L to (i + 1) L and predicts the next of each, so every token of the text is predicted once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray

from protoformer.batches import LanguageBatch
from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.padding import pad
from protoformer.data.batching.samplers import BatchConfig, MicroBatchSampler, decode_dummies
from protoformer.data.corpus.held_out import train_validation_split
from protoformer.data.corpus.shards import Shards
from protoformer.data.datamodules.context import DataContext
from protoformer.data.datamodules.corpus import CorpusDataModule
from protoformer.data.examples.columns import OnBadRow
from protoformer.data.sources.source import Role
from protoformer.text.tokenizers import Tokenizer


class RunningTextTemplate(Protocol):
    """A template of running text: it names the token that ends a document."""

    pad_id: int

    def document_end_id(self) -> int: ...


class TokenStream:
    """Spans of a corpus's documents as one stream, `end_id` before the first and after each.

    `text_bytes` is the length of the text as UTF-8.
    """

    def __init__(self, corpus: Shards, document_spans: Int[ndarray, "documents 2"], end_id: int) -> None:
        """`document_spans` are first sentence and one past the last: of whole documents, or of the beginning or end of one."""
        self.corpus, self.end_id = corpus, end_id
        first_tokens = corpus.sentence_tokens()
        self.starts = first_tokens[document_spans[:, 0]]  # in the corpus
        lengths = first_tokens[document_spans[:, 1]] - self.starts
        self.boundaries = np.concatenate([[0], np.cumsum(lengths + 1)])  # positions of `end_id` in the stream
        byte_offsets = np.concatenate([[0], np.cumsum(corpus.sentence_bytes())])
        self.text_bytes = int((byte_offsets[document_spans[:, 1]] - byte_offsets[document_spans[:, 0]]).sum())

    def __len__(self) -> int:
        return int(self.boundaries[-1]) + 1

    def read(self, start: int, length: int) -> Int[ndarray, "tokens"]:
        """`length` tokens from position `start` on, or as many as there are."""
        stop = min(start + length, len(self))
        tokens = np.full(stop - start, self.end_id, dtype=np.int64)
        first = int(np.searchsorted(self.boundaries, start, side="right")) - 1
        last = min(int(np.searchsorted(self.boundaries, stop, side="left")), len(self.starts))
        for document in range(first, last):
            # the document's text in the stream, and its part from start to stop
            text_start, text_stop = int(self.boundaries[document]) + 1, int(self.boundaries[document + 1])
            low, high = max(text_start, start), min(text_stop, stop)
            if low < high:
                offset = int(self.starts[document]) + low - text_start
                tokens[low - start : high - start] = self.corpus.ids(offset, high - low)
        return tokens


@dataclass(frozen=True)
class BlockTable:
    """A stream in blocks of `length` tokens; the last one may be shorter."""

    stream: TokenStream
    length: int
    stats: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return -(-(len(self.stream) - 1) // self.length)

    @property
    def lengths(self) -> Int[ndarray, "blocks"]:
        """Tokens that each block reads."""
        lengths = np.full(len(self), self.length)
        lengths[-1] = len(self.stream) - 1 - (len(self) - 1) * self.length
        return lengths


@dataclass(frozen=True)
class RunningText:
    """What an evaluation needs besides its batches: the text's bytes a token, and how to generate more text."""

    bytes_per_token: float
    tokenizer: Tokenizer
    end_id: int


class LanguageModelingDataModule(CorpusDataModule[BlockTable]):
    """Blocks of `max_len` tokens; its template is a RunningTextTemplate.

    `across_documents=False` lets no token attend to another document: each document's part of a block is a row of its own,
    whose positions begin anew.
    """

    template_method: ClassVar[str] = "document_end_id"
    left_to_right = True
    segmentation = "text"
    incomplete_data: ClassVar[Mapping[str, str]] = {"skipped": "rows left out"}

    def __init__(
        self,
        context: DataContext,
        *,
        across_documents: bool = True,
        held_out: float = 0.01,
        shard_tokens: int = 50_000_000,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(context, held_out=held_out, shard_tokens=shard_tokens, on_bad_row=on_bad_row)
        self.across_documents = across_documents

    def train_and_validation_tables(self, corpus: Shards, held_out: float) -> tuple[BlockTable, BlockTable | None]:
        train, validation = train_validation_split(corpus, held_out)
        return self._table(corpus, train), self._table(corpus, validation) if len(validation) else None

    def whole_table(self, corpus: Shards) -> BlockTable:
        return self._table(corpus, train_validation_split(corpus, 0.0)[0])

    def _table(self, corpus: Shards, document_spans: Int[ndarray, "documents 2"]) -> BlockTable:
        stream = TokenStream(corpus, document_spans, self.template.document_end_id())
        stats = {
            "origin": corpus.stats["origin"],
            "skipped": corpus.stats["skipped"],
            "documents": len(document_spans),
            "tokens": len(stream) - 1,
            "bytes": stream.text_bytes,
            "blocks": len(BlockTable(stream, self.max_len)),
            "digest": corpus.stats["digest"][:16],
        }
        return BlockTable(stream, self.max_len, stats)

    def log_lines(self, table: BlockTable) -> list[str]:
        stats = table.stats
        lines = [
            f"documents: {stats['documents']}, tokens: {stats['tokens']}, bytes: {stats['bytes']}, "
            f"blocks of {self.max_len}: {stats['blocks']}"
        ]
        if stats["skipped"]:
            lines.append(f"{stats['skipped']} rows left out: no text")
        if stats["blocks"] < self.batch_config.batch_size:
            lines.append(f"fewer blocks than the batch of {self.batch_config.batch_size}: every step sees all of them")
        return lines

    def references(self, role: Role, split: str) -> RunningText:
        stats = self.tables[role][split].stats
        return RunningText(stats["bytes"] / stats["tokens"], self.tokenizer, self.template.document_end_id())

    def texts(self, role: Role, split: str) -> list[str]:
        """None: a block is no example that could be misclassified."""
        return []

    def train_dataloader(self) -> BatchLoader:
        return self._loader(self.tables["train"][""], self.batch_config, shuffle=True)

    def val_dataloader(self) -> list[BatchLoader]:
        config = self.batch_config.for_evaluation()
        return [self._loader(table, config, shuffle=False) for table in self.tables["validation"].values()]

    def _loader(self, table: BlockTable, config: BatchConfig, *, shuffle: bool) -> BatchLoader:
        sampler = MicroBatchSampler(table.lengths, config, shuffle=shuffle)
        collate = LanguageModelingCollate(table, self.template.pad_id, self.across_documents)
        return BatchLoader(sampler, collate, config.workers)


class LanguageModelingCollate:
    """Block indices -> one batch; a row is a block, or with `across_documents=False` a document's part of one."""

    def __init__(self, table: BlockTable, pad_id: int, across_documents: bool) -> None:
        self.table, self.pad_id, self.across_documents = table, pad_id, across_documents

    def __call__(self, indices: list[int]) -> LanguageBatch:
        rows: list[ndarray] = []  # tokens to read, and the one after them
        example_ids: list[int] = []
        for block, is_real in zip(*decode_dummies(indices), strict=True):
            tokens = self.table.stream.read(block * self.table.length, self.table.length + 1)
            parts = [tokens] if self.across_documents else self._document_parts(tokens)
            rows += parts
            example_ids += [block if is_real else -1] * len(parts)
        ids, padding_mask = pad([row[:-1] for row in rows], self.pad_id)
        target_ids, _ = pad([row[1:] for row in rows], -1)
        target_ids[np.asarray(example_ids) < 0] = -1
        return LanguageBatch(
            ids=torch.from_numpy(ids),
            padding_mask=torch.from_numpy(padding_mask),
            target_ids=torch.from_numpy(target_ids),
            example_ids=torch.tensor(example_ids),
        )

    def _document_parts(self, tokens: Int[ndarray, "tokens"]) -> list[ndarray]:
        """A block cut before each token that ends a document, from which the next document is read."""
        cuts = [0, *(np.flatnonzero(tokens[1:-1] == self.table.stream.end_id) + 1), len(tokens) - 1]
        return [tokens[start : stop + 1] for start, stop in pairwise(cuts)]
