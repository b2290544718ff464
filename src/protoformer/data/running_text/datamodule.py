"""Data module for perplexities of running text: strided windows of whole texts (Radford et al. 2019, section 3.1)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from protoformer.batches import LanguageBatch
from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.samplers import BatchConfig, MicroBatchSampler
from protoformer.data.datamodules.context import DataContext
from protoformer.data.datamodules.table import TableDataModule
from protoformer.data.examples.columns import OnBadRow
from protoformer.data.running_text.reader import RunningTextReader
from protoformer.data.running_text.table import WindowCollate, WindowTable, window_table
from protoformer.data.running_text.windows import check_stride
from protoformer.data.sources.files import FilesSource
from protoformer.data.sources.source import RawTable, Role
from protoformer.errors import ConfigurationError

BATCH_TOKENS = 4096  # of windows that are read at once
DEFAULT_STRIDES = (1024, 512)  # both ends of what is known of the papers: no overlap, and half of the window


class PerplexityReferences(NamedTuple):
    """What an evaluation needs beside losses: the windows, and the counts of the original text."""

    table: WindowTable
    strides: Sequence[int]
    window: int
    detokenizers: Sequence[str] = ()


class PerplexityDataModule(TableDataModule[WindowTable]):
    """Its reader is a RunningTextReader; the model's template names the token that separates documents.

    Every text is scored once with each of `strides`. The window is the model's positions, or `task.max_len` where that is less;
    strides are clipped to it where `clip_strides` says so, and are an error where it does not.
    """

    template_method: ClassVar[str] = "document_end_id"
    table_class = WindowTable
    left_to_right = True
    incomplete_data: ClassVar[dict[str, str]] = {"skipped": "rows left out"}

    def __init__(
        self,
        context: DataContext,
        *,
        strides: Sequence[int] = DEFAULT_STRIDES,
        clip_strides: bool = True,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(context, on_bad_row=on_bad_row)
        if not strides:
            raise ConfigurationError("task.strides=[]: name at least one stride, such as task.strides=[1024,512]")
        for stride in strides:
            check_stride(min(stride, self.max_len) if clip_strides else stride, self.max_len, "task.strides")
        self.strides = list(dict.fromkeys(min(stride, self.max_len) for stride in strides))

    @property
    def text_reader(self) -> RunningTextReader:
        assert isinstance(self.reader, RunningTextReader)
        return self.reader

    def raw(self, role: Role, split: str) -> RawTable:
        """As `TableDataModule.raw`; of files of one's own each whole text."""
        return self.source.texts() if isinstance(self.source, FilesSource) else super().raw(role, split)

    def cache_settings(self) -> dict[str, Any]:
        return {"strides": self.strides}

    def encode(self, raw: RawTable, role: Role) -> WindowTable:
        read = self.text_reader.read(raw, self.on_bad_row)
        ids = self.tokenizer.encode(read.texts)
        table = window_table(ids, self.template.document_end_id(), self.max_len, self.strides)
        return table.with_stats(**read.stats)

    def references(self, role: Role, split: str) -> PerplexityReferences:
        return PerplexityReferences(self.tables[role][split], self.strides, self.max_len, self.text_reader.detokenize)

    def log_lines(self, table: WindowTable) -> list[str]:
        stats = table.stats
        strides = " and ".join(map(str, self.strides))
        texts = "1 text" if stats["texts"] == 1 else f"{stats['texts']:,} texts"
        lines = [
            f"{texts}, {stats['tokens']:,} tokens, {stats['words']:,} words, {stats['bytes']:,} bytes; "
            f"{len(table):,} windows of {self.max_len} tokens with strides of {strides}"
        ]
        if "joined" in stats:
            lines.append(
                f"de-tokenised by {', '.join(self.text_reader.detokenize)}: {stats['joined']} tokens changed, "
                f"{stats['ambiguous']} that have no inverse stay as they are"
            )
        return lines + ([f"{stats['skipped']} rows left out"] if stats["skipped"] else [])

    def overlap_columns(self, role: Role, split: str) -> Mapping[str, Sequence[object]]:
        """The lines of the texts: windows are no examples that could be left out."""
        texts = self.text_reader.read(self.raw(role, split), self.on_bad_row).texts
        return {"line": [line for text in texts for line in text.split("\n") if line.strip()]}

    def texts(self, role: Role, split: str) -> list[str]:
        """None: a window is no example that could be misclassified."""
        return []

    def collate(self, table: WindowTable) -> Callable[[list[int]], LanguageBatch]:
        return WindowCollate(table, self.template.pad_id)

    def _loader(self, table: WindowTable, config: BatchConfig, *, shuffle: bool) -> BatchLoader:
        rows = self.batch_config.micro_batch or max(1, BATCH_TOKENS // self.max_len)
        config = replace(config, batch_size=rows * config.ranks)
        return BatchLoader(_ByLength(table.lengths, config, shuffle=False), self.collate(table), config.workers)


class _ByLength(MicroBatchSampler):
    """Windows of one length together, so that little is padding."""

    def order(self) -> Int[ndarray, "windows"]:
        return np.argsort(-np.asarray(self.lengths), kind="stable")
