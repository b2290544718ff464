"""Batches for pretraining: masked (or next) tokens of pairs or packs of sentences (arXiv 1810.04805, section 3.1, A.2).

The corpus stands on disk as ids (`shards`) and as a table of examples for each length (`instances`); special tokens and masks
are put in when a batch is made. What a row becomes is a function of seed and draw alone: the same on any number of
ranks and workers, and after a restart.
"""

import logging
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import lightning.pytorch as pl
import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray

from protoformer.batches import PretrainingBatch
from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.padding import padded
from protoformer.data.batching.samplers import Batching, BatchSampler, Phase, PhasedSampler, fillers
from protoformer.data.cache import Table
from protoformer.data.corpus.masking import Masked, MaskedTokens, NextTokens
from protoformer.data.corpus.sentence_pairs import Instances, Recipe, Side, instances
from protoformer.data.corpus.sharding import shards
from protoformer.data.corpus.shards import Shards
from protoformer.data.datamodules.table import named_splits
from protoformer.data.examples.documents import Corpus
from protoformer.data.sources.source import Role, Source
from protoformer.errors import ConfigurationError, UserError
from protoformer.text.templates import EncodedExamples
from protoformer.text.tokenizers import Tokenizer

log = logging.getLogger(__name__)
TRAINING, VALIDATION = 0, 1  # the masks of the two are drawn apart


class PretrainingTemplate(Protocol):
    """A template that writes texts and pairs of texts, and says which of its tokens are no text."""

    pad_id: int
    sep_id: int
    special_ids: tuple[int, ...]

    @property
    def mask_id(self) -> int: ...

    def encode_texts(self, a: list[list[int]], b: list[list[int]] | None, max_len: int) -> EncodedExamples: ...


@dataclass(frozen=True)
class PhaseTable:
    """The examples of one phase, and how they are read."""

    steps: int
    max_len: int
    max_predictions: int
    instances: Instances


@dataclass(frozen=True)
class PretrainingTable:
    """The examples of all phases. Their rows are numbered one phase after another; a draw is such a number, plus the number
    of them all for each pass before."""

    shards: Shards
    phases: tuple[PhaseTable, ...]
    stats: Mapping[str, Any]

    def __len__(self) -> int:
        return sum(len(phase.instances) for phase in self.phases)

    @property
    def lengths(self) -> Int[ndarray, "rows"]:
        """Tokens of text of each row."""
        return np.concatenate([phase.instances.a_length + phase.instances.b_length for phase in self.phases])

    @property
    def firsts(self) -> list[int]:
        """The number of each phase's first row; and of them all."""
        return [0, *accumulate(len(phase.instances) for phase in self.phases)]


class PretrainingDataModule(pl.LightningDataModule):
    """`rows` is a Corpus, `template` a PretrainingTemplate; `batching.steps` says how long the run is.

    `phases` are {share, max_len, max_predictions}: the share of the steps, the longest example, and how many of its tokens
    are masked at most (null: as many as `masking` says). Validation examples are of the last phase's kind, from documents
    that are held out, or from a split of their own. Rows without text are left out and counted, whatever `on_bad_row` says.
    """

    template_method: ClassVar[str] = "mask_id"  # beside texts: a template that knows no [MASK] is for other kinds
    incomplete_data: ClassVar[Mapping[str, str]] = {"truncated": "truncated rows", "skipped": "rows left out"}

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
        masking: MaskedTokens | NextTokens,
        phases: Sequence[Mapping[str, Any]],
        nsp: bool = True,
        masks: Literal["dynamic", "static"] = "dynamic",
        duplicates: int = 1,
        held_out: float = 0.01,
        short_share: float = 0.1,
        shard_tokens: int = 50_000_000,
        on_bad_row: Literal["error", "skip"] = "error",
    ) -> None:
        super().__init__()
        if batching.steps is None:
            raise ConfigurationError("pretraining needs a number of steps: add recipe.max_steps=<n>")
        if batching.order != "random":
            raise ConfigurationError("pretraining supports only recipe.batching=random")
        if masks not in ("dynamic", "static"):
            raise ConfigurationError(f"task.data.masks={masks}: dynamic or static")
        for name, value in (("held_out", held_out), ("short_share", short_share)):
            if not 0 <= value < 1:
                raise ConfigurationError(f"task.data.{name}={value}: must be at least 0 and below 1")
        for name, number in (("duplicates", duplicates), ("shard_tokens", shard_tokens)):
            if number < 1:
                raise ConfigurationError(f"task.data.{name}={number}: at least 1")
        self.rows, self.source, self.tokenizer, self.template = rows, source, tokenizer, template
        self.max_len, self.batching, self.cache, self.on_bad_row = max_len, batching, cache, on_bad_row
        self.masking, self.nsp, self.masks, self.shard_tokens = masking, nsp, masks, shard_tokens
        self.splits: dict[Role, dict[str, str]] = {
            "train": named_splits(splits.get("train")),
            "validation": named_splits(splits.get("validation")),
            "test": {},
        }
        self.phases = planned(phases, batching.steps, max_len)
        last = self.phases[-1].max_len
        self.recipe = Recipe(last, nsp, duplicates, held_out, short_share, batching.seed)
        self.writing = Writing(template, tokenizer, masking)
        self.tables: dict[Role, dict[str, PretrainingTable]] = {}

    def prepare_data(self) -> None:
        """Tokenise the corpus and make the examples once, before other ranks look."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        if self.tables:
            return
        (name,) = self.splits["train"].values()
        corpus = self._shards(name)
        others = {ours: theirs for ours, theirs in self.splits["validation"].items() if theirs != name}
        recipe = replace(self.recipe, held_out=0.0) if others else self.recipe
        whole = replace(recipe, duplicates=1)
        train = self._table(corpus, recipe, self.phases, "train")
        assert train is not None
        validation: dict[str, PretrainingTable | None] = {
            ours: self._table(self._shards(theirs), whole, self.phases[-1:], "train") for ours, theirs in others.items()
        }
        if not others:
            validation[""] = self._table(corpus, recipe, self.phases[-1:], "validation")
        self.tables = {
            "train": {"": train},
            "validation": {ours: table for ours, table in validation.items() if table is not None},
            "test": {},
        }
        if not self.tables["validation"]:
            log.info("%s: no documents are held out, so there is no validation", train.stats["origin"])
        for words in self.log_lines(train):
            log.info("%s: %s", train.stats["origin"], words)

    def _shards(self, split: str) -> Shards:
        return shards(self.cache, self.rows.documents(self.source, split), self.tokenizer, self.shard_tokens)

    def _table(
        self, corpus: Shards, recipe: Recipe, phases: Sequence["PlannedPhase"], side: Side
    ) -> PretrainingTable | None:
        made = []
        for phase in phases:
            found = instances(self.cache, corpus, replace(recipe, length=phase.max_len), side)
            if found is None:
                return None
            made.append(PhaseTable(phase.steps, phase.max_len, phase.max_predictions, found))
        of_corpus = {name: corpus.stats[name] for name in ("origin", "documents", "sentences", "tokens", "skipped")}
        stats = {
            **of_corpus,
            "digest": corpus.stats["digest"][:16],
            "instances": [len(phase.instances) for phase in made],
            "held_out_documents": made[-1].instances.stats["held_out_documents"],
            "held_out_sentences": made[-1].instances.stats["held_out_sentences"],
            "random_pairs": sum(phase.instances.stats["random"] for phase in made),
            "truncated": sum(phase.instances.stats["truncated"] for phase in made),
        }
        return PretrainingTable(corpus, tuple(made), stats)

    def log_lines(self, table: PretrainingTable) -> list[str]:
        """What of a table's stats the log should hold, in words."""
        stats = table.stats
        words = [
            f"{stats['documents']} documents, {stats['sentences']} sentences, {stats['tokens']} tokens",
            f"{' + '.join(map(str, stats['instances']))} examples",
        ]
        if stats["truncated"]:
            words.append(f"{stats['truncated']} of {len(table)} pairs truncated")
        if stats["skipped"]:
            words.append(f"{stats['skipped']} rows left out: no text")
        if self.nsp and not stats["random_pairs"]:
            words.append("one document alone: no pair has another document's text as its second part")
        return words

    def references(self, role: Role, split: str) -> None:
        """An evaluation needs nothing besides its batches."""
        return

    def train_dataloader(self) -> BatchLoader:
        table = self.tables["train"][""]
        sampler = PhasedSampler([Phase(phase.steps, len(phase.instances)) for phase in table.phases], self.batching)
        collate = Collate(table, self.writing, self.batching.seed, TRAINING, fresh=self.masks == "dynamic")
        return BatchLoader(sampler, collate, self.batching.workers)

    def val_dataloader(self) -> list[BatchLoader]:
        batching = Batching(self.batching.evaluation_rows, rank=self.batching.rank, ranks=self.batching.ranks)
        return [
            BatchLoader(
                BatchSampler(table.lengths, batching, shuffle=False),
                Collate(table, self.writing, self.batching.seed, VALIDATION, fresh=False),
            )
            for table in self.tables["validation"].values()
        ]

    def test_dataloader(self) -> list[BatchLoader]:
        return []


@dataclass(frozen=True)
class PlannedPhase:
    """A phase in whole steps, no longer than the model can read."""

    steps: int
    max_len: int
    max_predictions: int


def planned(phases: Sequence[Mapping[str, Any]], steps: int, max_len: int) -> list[PlannedPhase]:
    """Shares of a run -> whole steps, `steps` in all. Raises ConfigurationError for shares that are not all of it."""
    for phase in phases:
        _checked(phase)
    shares = [float(phase["share"]) for phase in phases]
    if not shares or abs(sum(shares) - 1) > 1e-6:
        raise ConfigurationError(f"task.data.phases: the shares {shares} must sum to 1")
    ends = [round(done * steps) for done in accumulate(shares)]
    made = []
    for phase, begin, end in zip(phases, [0, *ends], [*ends[:-1], steps], strict=False):
        length = min(phase["max_len"], max_len)
        if length < 5:  # [CLS] a [SEP] b [SEP]
            raise ConfigurationError(f"task.data.phases: max_len={length} is too short for two segments")
        most = phase.get("max_predictions")
        made.append(PlannedPhase(end - begin, length, length if most is None else most))
    return made


def _checked(phase: Mapping[str, Any]) -> None:
    """Raises ConfigurationError for a phase whose keys or values are none."""
    if not {"share", "max_len"} <= set(phase) <= {"share", "max_len", "max_predictions"}:
        keys = ", ".join(map(str, phase))
        raise ConfigurationError(f"task.data.phases: a phase has share, max_len, max_predictions, not {keys}")
    share, most = phase["share"], phase.get("max_predictions")
    if type(share) not in (int, float) or not 0 <= share <= 1:
        raise ConfigurationError(f"task.data.phases: share={share}; expected a number from 0 to 1")
    if type(phase["max_len"]) is not int:
        raise ConfigurationError(f"task.data.phases: max_len={phase['max_len']}; expected a whole number")
    if most is not None and (type(most) is not int or most < 1):
        raise ConfigurationError(
            f"task.data.phases: max_predictions={most}; expected a whole number from 1 on, or null"
        )


class Writing:
    """How text becomes what the model reads and what it is to tell. Raises ConfigurationError where the vocabulary lacks what
    the masking needs."""

    def __init__(self, template: PretrainingTemplate, tokenizer: Tokenizer, masking: MaskedTokens | NextTokens) -> None:
        self.template, self.masking, self.vocab_size = template, masking, tokenizer.vocab_size
        self.is_continuation = tokenizer.is_continuation() if masking.whole_word else None
        if masking.whole_word and self.is_continuation is None:
            raise ConfigurationError(
                f"{tokenizer.origin}: its tokens do not mark word beginnings: set task.data.masking.whole_word=false"
            )
        try:
            self.mask_id = template.mask_id if masking.needs_mask else -1
        except UserError as error:
            raise ConfigurationError(f"{error}; masked tokens need it") from None

    def written(self, a: list[list[int]], b: list[list[int]], max_len: int) -> EncodedExamples:
        """Texts (where `b` is empty) and pairs, in their order."""
        paired = [bool(second) for second in b]
        if all(paired) or not any(paired):
            return self.template.encode_texts(a, b if all(paired) else None, max_len)
        each = [self.template.encode_texts([x], [y] if y else None, max_len) for x, y in zip(a, b, strict=True)]
        return EncodedExamples(
            ids=np.concatenate([one.ids for one in each]),
            segment_ids=np.concatenate([one.segment_ids for one in each]),
            offsets=np.concatenate([[0], np.cumsum([len(one.ids) for one in each])]),
            pooler_position=np.concatenate([one.pooler_position for one in each]),
            truncated=sum(one.truncated for one in each),
        )

    def masked(self, ids: Int[ndarray, "seq"], max_predictions: int, generator: np.random.Generator) -> Masked:
        special = np.zeros(len(ids), dtype=bool)
        for number in self.template.special_ids:
            special |= ids == number
        is_continuation = None if self.is_continuation is None else self.is_continuation[ids]
        return self.masking(ids, special, is_continuation, self.vocab_size, self.mask_id, max_predictions, generator)


class Counted:
    """A generator for each number, as good as one of its own and quicker: Philox, set to a far place (its key the seed)."""

    def __init__(self, *key: int) -> None:
        self.bits = np.random.Philox(np.random.SeedSequence(key))
        self.generator, self.state = np.random.Generator(self.bits), self.bits.state

    def of(self, number: int) -> np.random.Generator:
        """Valid until the next call."""
        self.state["state"]["counter"][3] = number
        self.bits.state = self.state
        return self.generator


class Collate:
    """Draws -> one padded batch. `fresh`: other masks in each pass."""

    def __init__(self, table: PretrainingTable, writing: Writing, seed: int, kind: int, *, fresh: bool) -> None:
        self.table, self.writing, self.seed, self.kind, self.fresh = table, writing, seed, kind, fresh
        self.firsts = table.firsts

    def __call__(self, indices: list[int]) -> PretrainingBatch:
        draws, real = fillers(indices)
        rows = [draw % self.firsts[-1] for draw in draws]
        phases = [bisect_right(self.firsts, row) - 1 for row in rows]
        texts, next_sentence = self._texts(rows, phases)
        longest = max(self.table.phases[phase].max_len for phase in phases)
        written = self.writing.written([a for a, _ in texts], [b for _, b in texts], longest)
        ids = np.asarray(written.ids, dtype=np.int64)
        told: list[Masked] = []
        generator = Counted(self.seed, self.kind)
        for number, (phase, start, end) in enumerate(zip(phases, written.offsets, written.offsets[1:], strict=False)):
            drawn = draws[number] if self.fresh else rows[number]
            most = self.table.phases[phase].max_predictions
            told.append(self.writing.masked(ids[start:end], most, generator.of(drawn)))
            ids[start:end] = told[-1].ids
        counts = [len(masked.positions) for masked in told]
        position = np.zeros((len(draws), max(1, *counts)), dtype=np.int64)
        target_ids = np.full(position.shape, -1, dtype=np.int64)
        for number, masked in enumerate(told):
            if real[number]:
                position[number, : counts[number]] = masked.positions
                target_ids[number, : counts[number]] = masked.target_ids
        judged = np.where(real, next_sentence, -1)
        return PretrainingBatch(
            **padded(Table(ids, written.segment_ids, written.offsets), range(len(draws)), self.writing.template.pad_id),
            pooler_position=torch.from_numpy(written.pooler_position.astype(np.int64)),
            example_ids=torch.from_numpy(np.where(real, draws, -1)),
            target_position=torch.from_numpy(position),
            target_ids=torch.from_numpy(target_ids),
            next_sentence=torch.from_numpy(judged),
            targets=torch.tensor([int((target_ids >= 0).sum()), int((judged >= 0).sum())]),
        )

    def _texts(
        self, rows: Sequence[int], phases: Sequence[int]
    ) -> tuple[list[tuple[list[int], list[int]]], Int[ndarray, "batch"]]:
        """The two parts of each row (the second may be empty), and what is to be said of them."""
        held = self.table.shards
        texts: list[tuple[list[int], list[int]]] = []
        next_sentence = np.full(len(rows), -1, dtype=np.int64)
        for number, (row, phase) in enumerate(zip(rows, phases, strict=True)):
            found = self.table.phases[phase].instances
            row -= self.firsts[phase]
            start, length, second = int(found.a_start[row]), int(found.a_length[row]), int(found.b_length[row])
            a, b = held.ids(start, length), []
            if second:
                b = held.ids(int(found.b_start[row]), second).tolist()
                next_sentence[number] = found.is_random[row]
            elif len(borders := held.borders(start, length)):
                a = np.insert(a, borders, self.writing.template.sep_id)
            texts.append((a.tolist(), b))
        return texts, next_sentence
