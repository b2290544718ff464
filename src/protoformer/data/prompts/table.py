"""Encoded prompts on disk: sequences of contexts and completions, and the examples that they belong to."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from protoformer.batches import PromptSequence
from protoformer.data.cache import Table
from protoformer.data.prompts.examples import PromptExample
from protoformer.text.prompts.pairs import EncodedPair


@dataclass(frozen=True)
class PromptTable(Table):
    """Sequence s of example e is `ids[offsets[f]:offsets[f + 1]]` with f = `first_sequence[e] + s`; its completion begins at
    `start[f]` and has `completion_bytes[f]` bytes. Example e is turn `turn[e]` of row `row[e]` under draw `draw[e]` of shots.
    """

    start: Int[ndarray, "sequences"]
    completion_bytes: Int[ndarray, "sequences"]
    first_sequence: Int[ndarray, "examples_1"]
    gold: Int[ndarray, "examples"]
    row: Int[ndarray, "examples"]
    turn: Int[ndarray, "examples"]
    draw: Int[ndarray, "examples"]
    group: Int[ndarray, "examples"]

    def __len__(self) -> int:
        return len(self.row)

    def key(self, example: int) -> tuple[int, int]:
        """The row and the turn of an example."""
        return int(self.row[example]), int(self.turn[example])

    @property
    def shots_left(self) -> float | None:
        """Shots of a prompt on average, where some prompts lost shots because they did not fit."""
        return self.stats["shots"] / len(self) if self.stats.get("dropped") and "shots" in self.stats else None

    @property
    def lengths(self) -> Int[ndarray, "examples"]:
        """Tokens of all sequences of each example."""
        return np.diff(self.offsets[self.first_sequence])

    def sequences(self, example: int) -> list[PromptSequence]:
        first, last = self.first_sequence[example : example + 2].tolist()
        return [
            PromptSequence(
                self.ids[self.offsets[number] : self.offsets[number + 1]].tolist(), int(self.start[number]), number
            )
            for number in range(first, last)
        ]


@dataclass
class Prompt:
    """An example with the texts of its shots, of which the last `used` fit."""

    example: PromptExample
    shots: Sequence[str]
    truncated: bool = False

    def __post_init__(self) -> None:
        self.used = len(self.shots)


class PromptTableBuilder:
    """Collects encoded examples as arrays."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.offsets, self.first_sequence = [0], [0]
        self.start: list[int] = []
        self.completion_bytes: list[int] = []
        self.examples: list[tuple[int, int, int, int, int]] = []
        self.groups: dict[str, int] = {}
        self.stats = {"truncated": 0, "dropped": 0, "shots": 0, "merged": 0}

    def add(
        self, prompt: Prompt, pairs: Sequence[EncodedPair], unconditional: Sequence[EncodedPair], draw: int
    ) -> None:
        example = prompt.example
        for pair, completion in zip((*pairs, *unconditional), 2 * [*example.completions], strict=False):
            self.ids += pair.ids
            self.offsets.append(len(self.ids))
            self.start.append(pair.start)
            self.completion_bytes.append(len(completion.encode()))
        self.first_sequence.append(len(self.start))
        group = self.groups.setdefault(example.group, len(self.groups))
        self.examples.append((example.gold, example.row, example.turn, draw, group))
        self.stats["truncated"] += prompt.truncated
        self.stats["dropped"] += prompt.used < len(prompt.shots)
        self.stats["shots"] += prompt.used
        self.stats["merged"] += any(pair.merged for pair in pairs)

    def table(self, stats: Mapping[str, Any]) -> PromptTable:
        gold, row, turn, draw, group = (np.asarray(column) for column in zip(*self.examples, strict=True))
        return PromptTable(
            ids=np.asarray(self.ids),
            segment_ids=np.empty(0, dtype=np.uint8),
            offsets=np.asarray(self.offsets),
            start=np.asarray(self.start),
            completion_bytes=np.asarray(self.completion_bytes),
            first_sequence=np.asarray(self.first_sequence),
            gold=gold,
            row=row,
            turn=turn,
            draw=draw,
            group=group,
            stats=stats,
        )


def prompt_hash(ids: Sequence[int]) -> str:
    """Digest of a prompt's tokens, for records of predictions."""
    return hashlib.sha256(np.asarray(ids, dtype=np.int64).tobytes()).hexdigest()[:16]
