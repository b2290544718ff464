"""Data of the ranking kind: a query, its candidate texts, and which of them is relevant.

A row of the data set is `{"query": text, "candidates": [text, ...], "relevant": index}`. A test split may hide `relevant`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy import ndarray
from torch import Tensor

from protoformer.data.batching.padding import pad_rows
from protoformer.data.batching.samplers import decode_dummies
from protoformer.data.cache import Table
from protoformer.data.datamodules.table import TableDataModule
from protoformer.data.sources.source import DatasetRef, RawTable, Role
from protoformer.errors import DataError


class RankingBatch(TypedDict):
    """Each candidate of an example is encoded as a pair with its query.

    Examples have any number of candidates. Where one has fewer than the widest of its batch, `candidate_mask` is False and
    the sequence is a single padding token.
    """

    ids: Int[Tensor, "batch candidates seq"]
    padding_mask: Bool[Tensor, "batch candidates seq"]  # True: a real token
    segment_ids: Int[Tensor, "batch candidates seq"]
    pooler_position: Int[Tensor, "batch candidates"]
    candidate_mask: Bool[Tensor, "batch candidates"]
    example_ids: Int[Tensor, "batch"]  # row of the split; -1: the example only fills the batch
    relevant: Int[Tensor, "batch"]  # index of a candidate; -1: hidden


@dataclass(frozen=True)
class RankingExample:
    row: int
    query: str
    candidates: list[str]
    relevant: int  # -1: hidden


@dataclass(frozen=True)
class RankingReader(DatasetRef):
    """Reader of the data set's rows."""

    def read(
        self, raw: RawTable, role: Role, on_bad_row: Literal["error", "skip"] = "error"
    ) -> tuple[list[RankingExample], int]:
        """The examples, and the number of rows left out. Raises DataError for a row that cannot be used."""
        examples: list[RankingExample] = []
        for row, content in enumerate(raw.table.to_pylist()):
            query, candidates = content.get("query"), content.get("candidates") or []
            relevant = content.get("relevant")
            hidden = role == "test" and relevant in (None, -1)
            if query and len(candidates) > 1 and all(candidates) and (hidden or relevant in range(len(candidates))):
                examples.append(RankingExample(row, query, candidates, -1 if hidden else relevant))
            elif on_bad_row == "error":
                raise DataError(f"{raw.location(row)}: needs a query, two or more candidates and a relevant one")
        if not examples:
            raise DataError(f"{raw.origin}: no usable row")
        return examples, raw.table.num_rows - len(examples)


@dataclass(frozen=True)
class RankingTable(Table):
    """Tokenised examples, kept on disk: candidate c of example e is sequence `first_candidate[e] + c`."""

    pooler_position: Int[ndarray, "sequences"]
    first_candidate: Int[ndarray, "examples_1"]
    relevant: Int[ndarray, "examples"]
    row: Int[ndarray, "examples"]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def lengths(self) -> Int[ndarray, "examples"]:
        """Tokens of all candidates of each example, by which batches may be grouped."""
        return np.diff(self.offsets[self.first_candidate])


class RankingDataModule(TableDataModule[RankingTable]):
    """Its reader is a RankingReader; the model's template needs the method `encode_texts`."""

    template_method: ClassVar[str] = "encode_texts"
    table_class = RankingTable

    def encode(self, raw: RawTable, role: Role) -> RankingTable:
        examples, skipped = self.reader.read(raw, role, self.on_bad_row)
        counts = [len(example.candidates) for example in examples]
        queries = self.tokenizer.encode([example.query for example in examples for _ in example.candidates])
        candidates = self.tokenizer.encode([text for example in examples for text in example.candidates])
        encoded = self.template.encode_texts(queries, candidates, self.max_len)
        return RankingTable(
            ids=encoded.ids,
            segment_ids=encoded.segment_ids,
            offsets=encoded.offsets,
            pooler_position=encoded.pooler_position,
            first_candidate=np.cumsum([0, *counts]),
            relevant=np.asarray([example.relevant for example in examples]),
            row=np.asarray([example.row for example in examples]),
            stats={"truncated": encoded.truncated, "skipped": skipped},
        )

    def collate(self, table: RankingTable) -> Callable[[list[int]], RankingBatch]:
        return RankingCollate(table, self.template.pad_id)

    def references(self, role: Role, split: str) -> dict[int, RankingExample]:
        """The texts of a split by row, which `predictions/` shows."""
        examples, _ = self.reader.read(self.raw(role, split), role, self.on_bad_row)
        return {example.row: example for example in examples}


@dataclass(frozen=True)
class RankingCollate:
    """Row numbers of a table -> one padded batch. A class, so that worker processes can unpickle it."""

    table: RankingTable
    pad_id: int

    def __call__(self, indices: list[int]) -> RankingBatch:
        chosen, real = decode_dummies(indices)
        bounds = [self.table.first_candidate[[index, index + 1]].tolist() for index in chosen]
        sequences = [sequence for start, end in bounds for sequence in range(start, end)]
        counts = torch.tensor([end - start for start, end in bounds])
        candidate_mask = torch.arange(int(counts.max())) < counts[:, None]  # (batch, candidates)
        rectangles: dict[str, Any] = dict(pad_rows(self.table, sequences, self.pad_id))
        shape = (*candidate_mask.shape, rectangles["ids"].shape[1])
        ids = torch.full(shape, self.pad_id)
        segment_ids = torch.zeros(shape, dtype=torch.long)
        padding_mask = torch.zeros(shape, dtype=torch.bool)
        padding_mask[:, :, 0] = True  # of the candidates that are not there: attention needs one token to attend to
        pooler_position = torch.zeros(candidate_mask.shape, dtype=torch.long)
        ids[candidate_mask] = rectangles["ids"]
        segment_ids[candidate_mask] = rectangles["segment_ids"]
        padding_mask[candidate_mask] = rectangles["padding_mask"]
        pooler_position[candidate_mask] = torch.from_numpy(self.table.pooler_position[sequences].astype(np.int64))
        return RankingBatch(
            ids=ids,
            padding_mask=padding_mask,
            segment_ids=segment_ids,
            pooler_position=pooler_position,
            candidate_mask=candidate_mask,
            example_ids=torch.from_numpy(np.where(real, self.table.row[chosen], -1)),
            relevant=torch.from_numpy(self.table.relevant[chosen]),
        )
