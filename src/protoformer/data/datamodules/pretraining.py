"""Data module for pretraining: masked (or next) tokens of sentence pairs or packs (arXiv 1810.04805, section 3.1, A.2).

The corpus is on disk as ids (`shards`) and as a table of instances for each length (`sentence_pairs`). Special tokens and masks
are added when a batch is made. What a sample index becomes is a function of it and the seed alone: the same on any number of
ranks and workers, and after a restart.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.phases import PhasePlan, plan_phases
from protoformer.data.batching.pretraining import (
    PhaseTable,
    PretrainingCollate,
    PretrainingEncoder,
    PretrainingTable,
)
from protoformer.data.batching.samplers import MicroBatchSampler, Phase, PhasedSampler
from protoformer.data.corpus.masking import MaskedTokens, NextTokens
from protoformer.data.corpus.sentence_pairs import InstanceConfig, instances
from protoformer.data.corpus.shards import Shards
from protoformer.data.datamodules.context import DataContext
from protoformer.data.datamodules.corpus import CorpusDataModule
from protoformer.data.examples.columns import OnBadRow
from protoformer.data.sources.source import Role
from protoformer.errors import ConfigurationError


class PretrainingDataModule(CorpusDataModule[PretrainingTable]):
    """Instances in phases; its template is a PretrainingTemplate, and `batch_config.steps` the length of the run.

    `phases` are {share, max_len, max_predictions}: the fraction of the steps, the longest example, and how many of its tokens
    are masked at most (null: as many as `masking` says). Validation instances are of the last phase's length. `masks` are drawn
    anew in each pass (dynamic) or once (static).
    """

    # besides encode_texts: a template without [MASK] is for other kinds
    template_method: ClassVar[str] = "mask_id"
    segmentation = "sentences"
    incomplete_data: ClassVar[Mapping[str, str]] = {"truncated": "truncated rows", "skipped": "rows left out"}

    def __init__(
        self,
        context: DataContext,
        *,
        masking: MaskedTokens | NextTokens,
        phases: Sequence[Mapping[str, Any]],
        nsp: bool = True,
        masks: Literal["dynamic", "static"] = "dynamic",
        duplicates: int = 1,
        held_out: float = 0.01,
        short_share: float = 0.1,
        shard_tokens: int = 50_000_000,
        on_bad_row: OnBadRow = "error",
    ) -> None:
        super().__init__(context, held_out=held_out, shard_tokens=shard_tokens, on_bad_row=on_bad_row)
        config = self.batch_config
        if config.steps is None:
            raise ConfigurationError("pretraining needs a number of steps: add recipe.max_steps=<n>")
        if config.order != "random":
            raise ConfigurationError("pretraining supports only recipe.batching=random")
        if masks not in ("dynamic", "static"):
            raise ConfigurationError(f"task.data.masks={masks}: dynamic or static")
        if not 0 <= short_share < 1:
            raise ConfigurationError(f"task.data.short_share={short_share}: must be at least 0 and below 1")
        if duplicates < 1:
            raise ConfigurationError(f"task.data.duplicates={duplicates}: at least 1")
        self.nsp, self.masks, self.left_to_right = nsp, masks, masking.left_to_right
        self.phases = plan_phases(phases, config.steps, self.max_len)
        self.instance_config = InstanceConfig(
            self.phases[-1].max_len, nsp, duplicates, held_out, short_share, config.seed
        )
        self.encoder = PretrainingEncoder(self.template, self.tokenizer, masking)

    def train_and_validation_tables(
        self, corpus: Shards, held_out: float
    ) -> tuple[PretrainingTable, PretrainingTable | None]:
        config = replace(self.instance_config, held_out=held_out)
        train = self._table(corpus, config, self.phases, "train")
        assert train is not None  # `instances` raises where a corpus gives none
        return train, self._table(corpus, config, self.phases[-1:], "validation")

    def whole_table(self, corpus: Shards) -> PretrainingTable:
        config = replace(self.instance_config, held_out=0.0, duplicates=1)
        table = self._table(corpus, config, self.phases[-1:], "train")
        assert table is not None
        return table

    def _table(
        self,
        corpus: Shards,
        config: InstanceConfig,
        phases: Sequence[PhasePlan],
        split: Literal["train", "validation"],
    ) -> PretrainingTable | None:
        tables = []
        for phase in phases:
            rows = instances(self.cache, corpus, replace(config, length=phase.max_len), split)
            if rows is None:
                return None
            tables.append(PhaseTable(phase.steps, phase.max_len, phase.max_predictions, rows))
        last = tables[-1].instances.stats
        stats = {
            **{name: corpus.stats[name] for name in ("origin", "documents", "sentences", "tokens", "skipped")},
            "digest": corpus.stats["digest"][:16],
            "instances": [len(phase.instances) for phase in tables],
            "held_out_documents": last["held_out_documents"],
            "held_out_sentences": last["held_out_sentences"],
            "random_pairs": sum(phase.instances.stats["random"] for phase in tables),
            "truncated": sum(phase.instances.stats["truncated"] for phase in tables),
        }
        return PretrainingTable(corpus, tuple(tables), stats)

    def log_lines(self, table: PretrainingTable) -> list[str]:
        stats = table.stats
        lines = [
            f"documents: {stats['documents']}, sentences: {stats['sentences']}, tokens: {stats['tokens']}, "
            f"examples: {' + '.join(map(str, stats['instances']))}",
        ]
        if stats["truncated"]:
            lines.append(f"{stats['truncated']} of {len(table)} pairs truncated")
        if stats["skipped"]:
            lines.append(f"{stats['skipped']} rows left out: no text")
        if self.nsp and (line := _random_pairs_line(stats["random_pairs"], sum(stats["instances"]))):
            lines.insert(0, line)
        return lines

    def references(self, role: Role, split: str) -> None:
        """None: an evaluation needs nothing besides its batches."""
        return

    def train_dataloader(self) -> BatchLoader:
        table, config = self.tables["train"][""], self.batch_config
        sampler = PhasedSampler([Phase(phase.steps, len(phase.instances)) for phase in table.phases], config)
        collate = PretrainingCollate(table, self.encoder, config.seed, "train", dynamic=self.masks == "dynamic")
        return BatchLoader(sampler, collate, config.workers)

    def val_dataloader(self) -> list[BatchLoader]:
        config = self.batch_config.for_evaluation()
        return [
            BatchLoader(
                MicroBatchSampler(table.lengths, config, shuffle=False),
                PretrainingCollate(table, self.encoder, self.batch_config.seed, "validation", dynamic=False),
            )
            for table in self.tables["validation"].values()
        ]


def _random_pairs_line(random_pairs: int, pairs: int) -> str | None:
    """A message where the fraction of pairs whose second part is of another document is far from the half that it should be."""
    if not random_pairs:
        return "one document alone: no pair has another document's text as its second part"
    fraction = random_pairs / pairs
    if abs(fraction - 0.5) <= 0.1 + 1.5 / math.sqrt(pairs):  # three standard deviations of a coin
        return None
    return (
        f"{fraction:.0%} of the pairs have a random second part (BERT: half): documents, or task.max_len, hold too few "
        "sentences; a blank line ends a document, not a sentence; task.data.nsp=false makes no pairs"
    )
