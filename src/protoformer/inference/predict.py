"""`protoformer predict`: the predictions of a trained run for a text, printed as a small table.

What a run can be asked is up to its task module (`TaskModule.predict_query`).
"""

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
from protoformer.errors import ConfigurationError
from protoformer.inference.load import LoadedRun, load
from protoformer.modules.queries import Query, RankedPredictions

BATCH_SIZE = 8  # windows of a long context that are read at once


def main(run: str, query: Query) -> None:
    """Print the predictions, the most probable first. Raises a one-line error for a query that the run's kind cannot answer."""
    for ranking in predict(load(run), query):
        print(ranking.title)
        for prediction in ranking.predictions:
            probability = "" if prediction.probability is None else f"{prediction.probability:7.2%}  "
            print(f"  {probability}{prediction.text}")


def predict(run: LoadedRun, query: Query) -> list[RankedPredictions]:
    """The run's predictions for a query. Raises ConfigurationError for one that its kind cannot answer."""
    if query.top < 1:
        raise ConfigurationError(f"--top {query.top}: at least 1")
    if query.choices and not run.model.takes_choices:
        raise ConfigurationError(f"--choice: a run of kind {run.config['task']['kind']} takes no choices")
    for option, texts in (("--text", [query.text]), ("--pair", [query.pair]), ("--choice", query.choices)):
        if any(text is not None and not text.strip() for text in texts):
            raise ConfigurationError(f"{option} is empty; write the text after it, in quotes")
    with torch.no_grad():
        return run.model.predict_query(query, RunEncoder(run))


@dataclass(frozen=True)
class TableRows:
    """Encoded rows of a datamodule's table."""

    data: TableDataModule[Any]
    table: Table
    references: Any

    def batches(self) -> Iterator[Any]:
        collate = self.data.collate(self.table)
        for start in range(0, len(self.table), BATCH_SIZE):
            yield collate(list(range(start, min(start + BATCH_SIZE, len(self.table)))))


class RunEncoder:
    """The `QueryEncoder` of a run: its tokenizer, template, reader and datamodule, as its config names them."""

    def __init__(self, run: LoadedRun) -> None:
        self.tokenizer = run.tokenizer
        self.reader: Any = instantiate(run.config, "task.rows") if "rows" in run.config["task"] else None
        self.template = instantiate(run.config, "model.template", tokenizer=run.tokenizer)
        self.max_len = min(run.config["task"]["max_len"], run.model.backbone.max_seq_len)
        self._data_config = {**run.config["task"]["data"], "on_bad_row": "skip"}

    def encode_texts(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> dict[str, Tensor]:
        encode = self.tokenizer.encode
        encoded = self.template.encode_texts(
            encode(list(texts)), None if pairs is None else encode(list(pairs)), self.max_len
        )
        count = len(encoded.offsets) - 1
        table = Table(np.asarray(encoded.ids), encoded.segment_ids, encoded.offsets)
        return {
            **pad_rows(table, range(count), self.template.pad_id),  # type: ignore[dict-item]
            "pooler_position": torch.from_numpy(encoded.pooler_position.astype(np.int64)),
            "example_ids": torch.arange(count),
        }

    def encode_rows(self, columns: Mapping[str, Sequence[Any]]) -> TableRows:
        raw = RawTable(pa.table(dict(columns)), "the query", "")
        data = instantiate_node(
            self._data_config,
            "task.data",
            context=DataContext(
                reader=self.reader,
                splits={"test": "test"},
                source=InMemorySource(raw),
                tokenizer=self.tokenizer,
                template=self.template,
                max_len=self.max_len,
                batch_config=BatchConfig(BATCH_SIZE),
                cache=Path(),  # nothing is cached
            ),
        )
        table = data.encode(raw, "test")
        data.tables = {"test": {"": table}}
        return TableRows(data, table, data.references("test", ""))


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
