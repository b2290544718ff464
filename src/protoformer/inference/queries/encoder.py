"""Texts of queries, encoded as the model's own data are: by its tokenizer, input template, reader and datamodule."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from protoformer.assembly.instantiate import instantiate, instantiate_node
from protoformer.data.batching.padding import pad_rows
from protoformer.data.batching.samplers import BatchConfig
from protoformer.data.cache import Table
from protoformer.data.datamodules.context import DataContext
from protoformer.data.datamodules.table import TableDataModule
from protoformer.data.sources.source import DatasetRef, RawStream, RawTable, table_stream
from protoformer.decoding.seq2seq import batches_by_length
from protoformer.errors import ConfigurationError
from protoformer.inference.opening.opened import OpenedModel
from protoformer.models.backbone import check_ids

BATCH_TOKENS = 8192  # of a batch, with padding
TRUNCATED = ("truncated", "questions_truncated")  # stats of tables that count what lost tokens


def to_device(batch: Mapping[str, object], device: torch.device) -> dict[str, Any]:
    """A batch on the device of the model."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}


@dataclass(frozen=True)
class TableRows:
    """Encoded rows of a datamodule's table."""

    data: TableDataModule[Any]
    table: Table
    references: Any
    device: torch.device
    batch_tokens: int

    def batches(self) -> Iterator[Any]:
        """Rows of similar length together, the longest first."""
        collate = self.data.collate(self.table)
        for rows in batches_by_length(self.table.lengths.tolist(), self.batch_tokens):
            yield to_device(collate(rows), self.device)


class RunEncoder:
    """The `QueryEncoder` of a model. A batch has at most `batch_tokens`, or is one row; `truncated` counts texts that lost
    tokens."""

    def __init__(self, opened: OpenedModel, batch_tokens: int = BATCH_TOKENS) -> None:
        if batch_tokens < 1:
            raise ConfigurationError(f"--batch-tokens {batch_tokens}: at least 1")
        self.batch_tokens = batch_tokens
        self.tokenizer, self.of_run = opened.tokenizer, opened.of_run
        self.reader: Any = instantiate(opened.config, "task.rows") if opened.config["task"].get("rows") else None
        self.template, self.max_len = opened.template(), opened.max_len
        self.backbone = opened.model.backbone
        self.device = next(opened.model.parameters()).device
        self.truncated = 0
        self._data_config = {**opened.config["task"].get("data", {}), "on_bad_row": "skip"}

    def encode_texts(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> dict[str, Tensor]:
        encoded = self._encode(texts, pairs)
        return self._batch(encoded, range(len(texts)))

    def encode_batches(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Iterator[dict[str, Tensor]]:
        encoded = self._encode(texts, pairs)
        for indices in batches_by_length(encoded[0].lengths.tolist(), self.batch_tokens):
            yield self._batch(encoded, indices)

    def encode_rows(self, columns: Mapping[str, Sequence[object]], reader: object = None) -> TableRows:
        raw = RawTable(pa.table(dict(columns)), "the query", "")
        data = instantiate_node(
            self._data_config,
            "task.data",
            context=DataContext(
                reader=reader or self.reader,
                splits={"test": "test"},
                source=InMemorySource(raw),
                tokenizer=self.tokenizer,
                template=self.template,
                max_len=self.max_len,
                batch_config=BatchConfig(1),  # batches are made by length
                cache=Path(),  # nothing is cached
            ),
        )
        table = data.encode(raw, "test")
        check_ids(self.backbone, "the texts", table.ids, table.segment_ids)
        self.truncated += sum(table.stats.get(name, 0) for name in TRUNCATED)
        data.tables = {"test": {"": table}}
        return TableRows(data, table, data.references("test", ""), self.device, self.batch_tokens)

    def _encode(self, texts: Sequence[str], pairs: Sequence[str] | None) -> tuple[Table, np.ndarray]:
        """Encoded texts, and the pooled position of each."""
        encode = self.tokenizer.encode
        encoded = self.template.encode_texts(
            encode(list(texts)), None if pairs is None else encode(list(pairs)), self.max_len
        )
        self.truncated += encoded.truncated
        check_ids(self.backbone, "the texts", encoded.ids, encoded.segment_ids)
        return Table(np.asarray(encoded.ids), encoded.segment_ids, encoded.offsets), encoded.pooler_position

    def _batch(self, encoded: tuple[Table, np.ndarray], rows: Sequence[int]) -> dict[str, Tensor]:
        table, pooler_position = encoded
        batch = {
            **pad_rows(table, rows, self.template.pad_id),
            "pooler_position": torch.from_numpy(pooler_position[list(rows)].astype(np.int64)),
            "example_ids": torch.tensor(list(rows)),
        }
        return to_device(batch, self.device)


@dataclass(frozen=True)
class InMemorySource:
    """A source of the rows of a query alone."""

    raw: RawTable

    def load(self, ref: DatasetRef, split: str) -> RawTable:
        return self.raw

    def stream(self, ref: DatasetRef, split: str, columns: Sequence[str] | None = None) -> RawStream:
        return table_stream(self.raw, columns)

    def corpus(self) -> None:
        return None
