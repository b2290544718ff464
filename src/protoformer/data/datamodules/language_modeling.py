"""Batches for the language model alone: running text in blocks (Radford et al. 2018, sections 3.1 and 4.1; 2019, section 2).

The documents of a corpus stand one after another as one stream, with a token before the first and after each that ends a
text. Block i of length L reads tokens i L to (i + 1) L, and is to tell each one's next: every token of the text is told once.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import lightning.pytorch as pl
import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray

from protoformer.batches import LanguageBatch
from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.samplers import Batching, BatchSampler, fillers
from protoformer.data.corpus.sentence_pairs import sides
from protoformer.data.corpus.sharding import shards
from protoformer.data.corpus.shards import Shards
from protoformer.data.datamodules.table import named_splits
from protoformer.data.examples.documents import Corpus
from protoformer.data.sources.source import Role, Source
from protoformer.errors import ConfigurationError
from protoformer.text.tokenizers import Tokenizer

log = logging.getLogger(__name__)


class RunningTextTemplate(Protocol):
    """A template of running text: it names the token that ends a document."""

    pad_id: int

    def document_end_id(self) -> int: ...


class Stream:
    """Some stretches of a corpus, an `end` before the first and after each. `bytes` is the text's length as UTF-8."""

    def __init__(self, corpus: Shards, stretches: Int[ndarray, "documents 2"], end: int) -> None:
        """`stretches` are whole documents, or the beginning or end of one: first sentence, and one past the last."""
        self.corpus, self.end = corpus, end
        tokens = corpus.sentence_tokens()
        self.starts = tokens[stretches[:, 0]]
        lengths = tokens[stretches[:, 1]] - self.starts
        self.borders = np.concatenate([[0], np.cumsum(lengths + 1)])  # where the `end` before each document stands
        held = np.concatenate([[0], np.cumsum(corpus.sentence_bytes())])
        self.bytes = int((held[stretches[:, 1]] - held[stretches[:, 0]]).sum())

    def __len__(self) -> int:
        return int(self.borders[-1]) + 1

    def read(self, start: int, length: int) -> Int[ndarray, "tokens"]:
        """`length` tokens from number `start` on, or as many as there are."""
        stop = min(start + length, len(self))
        found = np.full(stop - start, self.end, dtype=np.int64)
        first = int(np.searchsorted(self.borders, start, side="right")) - 1
        last = min(int(np.searchsorted(self.borders, stop, side="left")), len(self.starts))
        for document in range(first, last):
            begin = int(self.borders[document]) + 1  # of its text in the stream
            low, high = max(begin, start), min(int(self.borders[document + 1]), stop)
            if low < high:
                place = int(self.starts[document]) + low - begin
                found[low - start : high - start] = self.corpus.ids(place, high - low)
        return found


@dataclass(frozen=True)
class BlockTable:
    """A stream in blocks of `length` tokens; the last one may be shorter."""

    stream: Stream
    length: int
    stats: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return -(-(len(self.stream) - 1) // self.length)

    @property
    def lengths(self) -> Int[ndarray, "blocks"]:
        """Tokens to read of each block."""
        lengths = np.full(len(self), self.length)
        lengths[-1] = len(self.stream) - 1 - (len(self) - 1) * self.length
        return lengths


@dataclass(frozen=True)
class RunningText:
    """What an evaluation needs besides its batches: how long the text is that a token stands for, and how to go on writing."""

    bytes_per_token: float
    tokenizer: Tokenizer
    end: int


class LanguageModelingDataModule(pl.LightningDataModule):
    """`rows` is a Corpus, `template` a RunningTextTemplate; a block has `max_len` tokens.

    `across_documents=False` lets no token see another document: each document's part of a block is a row of its own, whose
    positions begin anew. Of the documents a share `held_out` is validated on, or a split of its own.
    """

    template_method: ClassVar[str] = "document_end_id"
    incomplete_data: ClassVar[Mapping[str, str]] = {"skipped": "rows left out"}

    def __init__(
        self,
        *,
        rows: Corpus,
        splits: Mapping[str, str | Mapping[str, str] | None],
        source: Source,
        tokenizer: Tokenizer,
        template: Any,
        max_len: int,
        batching: Batching,
        cache: Path,
        across_documents: bool = True,
        held_out: float = 0.01,
        shard_tokens: int = 50_000_000,
        on_bad_row: Literal["error", "skip"] = "error",
    ) -> None:
        super().__init__()
        if not 0 <= held_out < 1:
            raise ConfigurationError(f"task.data.held_out={held_out}: must be at least 0 and below 1")
        if shard_tokens < 1:
            raise ConfigurationError(f"task.data.shard_tokens={shard_tokens}: at least 1")
        self.rows, self.source, self.tokenizer, self.template = rows, source, tokenizer, template
        self.max_len, self.batching, self.cache, self.on_bad_row = max_len, batching, cache, on_bad_row
        self.across_documents, self.held_out, self.shard_tokens = across_documents, held_out, shard_tokens
        self.splits: dict[Role, dict[str, str]] = {
            "train": named_splits(splits.get("train")),
            "validation": named_splits(splits.get("validation")),
            "test": {},
        }
        self.tables: dict[Role, dict[str, BlockTable]] = {}

    def prepare_data(self) -> None:
        """Tokenise the corpus once, before other ranks look."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        if self.tables:
            return
        (name,) = self.splits["train"].values()
        corpus = self._shards(name)
        others = {ours: theirs for ours, theirs in self.splits["validation"].items() if theirs != name}
        train, held = sides(corpus, 0.0 if others else self.held_out)
        validation = {ours: self._whole(theirs) for ours, theirs in others.items()}
        if len(held):
            validation[""] = self._table(corpus, held)
        self.tables = {"train": {"": self._table(corpus, train)}, "validation": validation, "test": {}}
        if not validation:
            log.info("%s: no documents are held out, so there is no validation", corpus.stats["origin"])
        for words in self.log_lines(self.tables["train"][""]):
            log.info("%s: %s", corpus.stats["origin"], words)

    def _shards(self, split: str) -> Shards:
        documents = self.rows.documents(self.source, split)
        return shards(self.cache, documents, self.tokenizer, self.shard_tokens, cut="text")

    def _whole(self, split: str) -> BlockTable:
        corpus = self._shards(split)
        return self._table(corpus, sides(corpus, 0.0)[0])

    def _table(self, corpus: Shards, stretches: Int[ndarray, "documents 2"]) -> BlockTable:
        stream = Stream(corpus, stretches, self.template.document_end_id())
        table = BlockTable(stream, self.max_len)
        told = {name: corpus.stats[name] for name in ("origin", "skipped")}
        own = {"documents": len(stretches), "tokens": len(stream) - 1, "bytes": stream.bytes, "blocks": len(table)}
        return BlockTable(stream, self.max_len, {**told, **own, "digest": corpus.stats["digest"][:16]})

    def log_lines(self, table: BlockTable) -> list[str]:
        """What of a table's stats the log should hold, in words."""
        stats = table.stats
        words = [
            f"{stats['documents']} documents, {stats['tokens']} tokens, {stats['bytes']} bytes; "
            f"{stats['blocks']} blocks of {self.max_len}"
        ]
        if stats["skipped"]:
            words.append(f"{stats['skipped']} rows left out: no text")
        if stats["blocks"] < self.batching.batch_size:
            words.append(f"fewer blocks than the batch of {self.batching.batch_size}: every step sees all of them")
        return words

    def references(self, role: Role, split: str) -> RunningText:
        stats = self.tables[role][split].stats
        return RunningText(stats["bytes"] / stats["tokens"], self.tokenizer, self.template.document_end_id())

    def texts(self, role: Role, split: str) -> list[str]:
        """A block is no example whose mistakes could be listed."""
        return []

    def train_dataloader(self) -> BatchLoader:
        return self._loader(self.tables["train"][""], self.batching, shuffle=True)

    def val_dataloader(self) -> list[BatchLoader]:
        batching = Batching(self.batching.evaluation_rows, rank=self.batching.rank, ranks=self.batching.ranks)
        return [self._loader(table, batching, shuffle=False) for table in self.tables["validation"].values()]

    def test_dataloader(self) -> list[BatchLoader]:
        return []

    def _loader(self, table: BlockTable, batching: Batching, *, shuffle: bool) -> BatchLoader:
        sampler = BatchSampler(table.lengths, batching, shuffle=shuffle)
        return BatchLoader(sampler, Collate(table, self.template.pad_id, self.across_documents), batching.workers)


class Collate:
    """Block numbers -> one batch; a row is a block, or with `across_documents=False` a document's part of one."""

    def __init__(self, table: BlockTable, pad_id: int, across_documents: bool) -> None:
        self.table, self.pad_id, self.across_documents = table, pad_id, across_documents

    def __call__(self, indices: list[int]) -> LanguageBatch:
        chosen, real = fillers(indices)
        rows: list[tuple[int, ndarray]] = []  # example id, the tokens to read and one more
        for block, counts in zip(chosen, real, strict=True):
            read = self.table.stream.read(block * self.table.length, self.table.length + 1)
            rows += [(block if counts else -1, part) for part in self._parts(read)]
        shape = (len(rows), max(len(part) for _, part in rows) - 1)
        ids, target_ids = np.full(shape, self.pad_id, dtype=np.int64), np.full(shape, -1, dtype=np.int64)
        padding_mask = np.zeros(shape, dtype=bool)
        for number, (example, part) in enumerate(rows):
            length = len(part) - 1
            ids[number, :length], padding_mask[number, :length] = part[:-1], True
            if example >= 0:
                target_ids[number, :length] = part[1:]
        return LanguageBatch(
            ids=torch.from_numpy(ids),
            padding_mask=torch.from_numpy(padding_mask),
            target_ids=torch.from_numpy(target_ids),
            example_ids=torch.tensor([example for example, _ in rows]),
        )

    def _parts(self, read: Int[ndarray, "tokens"]) -> list[ndarray]:
        """The block whole, or cut before each token that ends a document (which the next one is read from)."""
        if self.across_documents:
            return [read]
        begins = [0, *(np.flatnonzero(read[1:-1] == self.table.stream.end) + 1), len(read) - 1]
        return [read[begin : stop + 1] for begin, stop in pairwise(begins)]
