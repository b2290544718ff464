"""From sample indices to pretraining batches: texts of a corpus with special tokens, masks and next-sentence labels."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy import ndarray

from protoformer.batches import PretrainingBatch
from protoformer.data.batching.padding import pad, pad_rows
from protoformer.data.batching.samplers import decode_dummies
from protoformer.data.cache import Table
from protoformer.data.corpus.masking import Draws, MaskedSequence, MaskedTokens, NextTokens
from protoformer.data.corpus.sentence_pairs import Instances
from protoformer.data.corpus.shards import Shards
from protoformer.errors import ConfigurationError, UserError
from protoformer.text.templates import EncodedExamples
from protoformer.text.tokenizers import Tokenizer

MASK_STREAMS = {"train": 0, "validation": 1}  # their masks are drawn independently


class PretrainingTemplate(Protocol):
    """A template that encodes texts and pairs of texts, and knows its special tokens."""

    pad_id: int
    sep_id: int
    special_ids: tuple[int, ...]

    @property
    def mask_id(self) -> int: ...

    def encode_texts(self, a: list[list[int]], b: list[list[int]] | None, max_len: int) -> EncodedExamples: ...


@dataclass(frozen=True)
class PhaseTable:
    """The instances of one phase, and how they are read."""

    steps: int
    max_len: int
    max_predictions: int
    instances: Instances


@dataclass(frozen=True)
class PretrainingTable:
    """The instances of all phases, their rows numbered one phase after another.

    A sample index is pass x total rows + row.
    """

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
    def first_rows(self) -> list[int]:
        """The first row of each phase; and the number of all rows."""
        return [0, *accumulate(len(phase.instances) for phase in self.phases)]


class PretrainingEncoder:
    """Template and masking of a run.

    Raises ConfigurationError where the vocabulary lacks what the masking needs.
    """

    def __init__(self, template: PretrainingTemplate, tokenizer: Tokenizer, masking: MaskedTokens | NextTokens) -> None:
        self.template, self.masking, self.vocab_size = template, masking, tokenizer.vocab_size
        self.is_continuation = tokenizer.is_continuation() if masking.whole_word else None
        self.is_special = np.zeros(1 + max(self.vocab_size - 1, *template.special_ids, 0), dtype=bool)
        self.is_special[list(template.special_ids)] = True
        if masking.whole_word and self.is_continuation is None:
            raise ConfigurationError(
                f"{tokenizer.origin}: its tokens do not mark word beginnings: set task.data.masking.whole_word=false"
            )
        try:
            self.mask_id = template.mask_id if masking.needs_mask else -1
        except UserError as error:
            raise ConfigurationError(f"{error}; masked tokens need it") from None

    def encode(self, a: list[list[int]], b: list[list[int]], max_len: int) -> EncodedExamples:
        """Texts (where `b` is empty) and pairs, in their order."""
        is_pair = [bool(second) for second in b]
        if all(is_pair) or not any(is_pair):
            return self.template.encode_texts(a, b if all(is_pair) else None, max_len)
        examples = [
            self.template.encode_texts([first], [second] if second else None, max_len)
            for first, second in zip(a, b, strict=True)
        ]
        return EncodedExamples(
            ids=np.concatenate([example.ids for example in examples]),
            segment_ids=np.concatenate([example.segment_ids for example in examples]),
            offsets=np.concatenate([[0], np.cumsum([len(example.ids) for example in examples])]),
            pooler_position=np.concatenate([example.pooler_position for example in examples]),
            truncated=sum(example.truncated for example in examples),
        )

    def mask(
        self,
        ids: Int[ndarray, "tokens"],
        offsets: Int[ndarray, "rows_1"],
        max_predictions: Sequence[int],
        generators: Iterator[np.random.Generator],
    ) -> list[MaskedSequence]:
        """Encoded sequences, one after another, with their masks and the targets under them. Only what a sequence draws is
        computed by itself."""
        special = self.is_special[ids]
        is_continuation = None if self.is_continuation is None else self.is_continuation[ids]
        bounds = offsets.tolist()
        rows = [slice(start, end) for start, end in pairwise(bounds)]

        def parts(row: slice) -> tuple[Bool[ndarray, "seq"], Bool[ndarray, "seq"] | None]:
            return special[row], None if is_continuation is None else is_continuation[row]

        if type(self.masking) is not MaskedTokens:
            return [
                self.masking(ids[row], *parts(row), self.vocab_size, self.mask_id, most, generator)
                for row, most, generator in zip(rows, max_predictions, generators, strict=False)
            ]
        draws = [
            self.masking.draw(row.stop - row.start, *parts(row), self.vocab_size, most, generator)
            for row, most, generator in zip(rows, max_predictions, generators, strict=False)
        ]
        shifted = [drawn.positions + row.start for drawn, row in zip(draws, rows, strict=True)]
        together = Draws(
            np.concatenate(shifted),
            np.concatenate([drawn.uniform for drawn in draws]),
            np.concatenate([drawn.random_ids for drawn in draws]),
        )
        corrupted = self.masking.corrupted(ids, together, self.mask_id)
        return [
            MaskedSequence(corrupted[row], drawn.positions, ids[positions])
            for row, drawn, positions in zip(rows, draws, shifted, strict=True)
        ]


class PhiloxStreams:
    """Counter-based random streams: stream i is Philox with its counter at i x 2**192.

    As independent as a generator for each i, and quicker: none is constructed.
    """

    def __init__(self, *key: int) -> None:
        self.bit_generator = np.random.Philox(np.random.SeedSequence(key))
        self.generator, self.state = np.random.Generator(self.bit_generator), self.bit_generator.state

    def stream(self, index: int) -> np.random.Generator:
        """The generator of a stream, valid until the next call."""
        self.state["state"]["counter"][3] = index  # the most significant of its four 64-bit words
        self.bit_generator.state = self.state
        return self.generator


class PretrainingCollate:
    """Sample indices -> one padded batch. `dynamic`: other masks in each pass."""

    def __init__(
        self,
        table: PretrainingTable,
        encoder: PretrainingEncoder,
        seed: int,
        split: Literal["train", "validation"],
        *,
        dynamic: bool,
    ) -> None:
        self.table, self.encoder, self.seed, self.split, self.dynamic = table, encoder, seed, split, dynamic
        self.first_rows = table.first_rows

    def __call__(self, indices: list[int]) -> PretrainingBatch:
        sample_indices, is_real = decode_dummies(indices)
        rows = [index % self.first_rows[-1] for index in sample_indices]
        phases = [self.table.phases[bisect_right(self.first_rows, row) - 1] for row in rows]
        a, b, next_sentence = self._texts(rows)
        encoded = self.encoder.encode(a, b, max(phase.max_len for phase in phases))
        masked = self._masked(encoded, sample_indices if self.dynamic else rows, phases)
        ids = np.concatenate([sequence.ids for sequence in masked])
        target_position, _ = pad([sequence.positions for sequence in masked], 0)
        target_ids, _ = pad([sequence.target_ids for sequence in masked], -1)
        target_position[~np.asarray(is_real)] = 0
        target_ids[~np.asarray(is_real)] = -1
        next_sentence = np.where(is_real, next_sentence, -1)
        table = Table(ids, encoded.segment_ids, encoded.offsets)
        return PretrainingBatch(
            **pad_rows(table, range(len(rows)), self.encoder.template.pad_id),
            pooler_position=torch.from_numpy(encoded.pooler_position.astype(np.int64)),
            example_ids=torch.from_numpy(np.where(is_real, sample_indices, -1)),
            target_position=torch.from_numpy(target_position),
            target_ids=torch.from_numpy(target_ids),
            next_sentence=torch.from_numpy(next_sentence),
            targets=torch.tensor([int((target_ids >= 0).sum()), int((next_sentence >= 0).sum())]),
        )

    def _masked(
        self, encoded: EncodedExamples, streams: Sequence[int], phases: Sequence[PhaseTable]
    ) -> list[MaskedSequence]:
        """Each sequence with its masks, drawn from the stream of its number."""
        ids = np.asarray(encoded.ids, dtype=np.int64)
        random = PhiloxStreams(self.seed, MASK_STREAMS[self.split])
        most = [phase.max_predictions for phase in phases]
        return self.encoder.mask(ids, encoded.offsets, most, map(random.stream, streams))

    def _texts(self, rows: Sequence[int]) -> tuple[list[list[int]], list[list[int]], Int[ndarray, "batch"]]:
        """The two parts of each row (the second may be empty), and its next-sentence label."""
        corpus = self.table.shards
        first_parts: list[list[int]] = []
        second_parts: list[list[int]] = []
        next_sentence = np.full(len(rows), -1, dtype=np.int64)
        for index, row in enumerate(rows):
            phase = bisect_right(self.first_rows, row) - 1
            table, instance = self.table.phases[phase].instances, row - self.first_rows[phase]
            start, length = int(table.a_start[instance]), int(table.a_length[instance])
            second_length = int(table.b_length[instance])
            a, b = corpus.ids(start, length), []
            if second_length:
                b = corpus.ids(int(table.b_start[instance]), second_length).tolist()
                next_sentence[index] = table.is_random[instance]
            elif len(boundaries := corpus.document_boundaries(start, length)):
                a = np.insert(a, boundaries, self.encoder.template.sep_id)  # a pack over the end of a document
            first_parts.append(a.tolist())
            second_parts.append(b)
        return first_parts, second_parts, next_sentence
