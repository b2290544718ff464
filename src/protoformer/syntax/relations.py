"""Does a head find the word at the other end of an arc?

Of each word a head attends to one other word most. For a relation such as `amod` and each of its directions (from the dependent
to its head, and back) the accuracy of an attention head is the fraction of arcs whose other end is that word (Clark et al.
2019, arXiv 1906.04341, section 4.2; Htut et al. 2019, arXiv 1911.12246, section 4). A baseline attends to the word at one
fixed offset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy import ndarray
from torch import Tensor

from protoformer.syntax.treebank import Sentence
from protoformer.syntax.word_attention import WordAttention

MAX_OFFSET = 10
OFFSETS = [offset for distance in range(1, MAX_OFFSET + 1) for offset in (-distance, distance)]


class Direction(StrEnum):
    """Which end of an arc attends: the dependent to its head, or the head to its dependent."""

    TO_HEAD = "to head"
    TO_DEPENDENT = "to dependent"


@dataclass(frozen=True)
class Matches:
    """Arcs of a batch of sentences, each in both directions and counted in two cells, its relation's and "any".

    A predictor is a head, row by row of layers, or a fixed offset.
    """

    sentences: Int[ndarray, "arcs"]  # rows of the batch
    cells: Int[ndarray, "arcs"]
    right: Bool[ndarray, "arcs predictors"]  # whether the predictor attends to the other end

    def arcs(self, n_cells: int) -> Int[ndarray, "cells"]:
        return np.bincount(self.cells, minlength=n_cells)

    def correct(self, n_cells: int) -> Int[ndarray, "cells predictors"]:
        """Numbers of arcs that each predictor finds."""
        members = np.zeros((n_cells, len(self.cells)), dtype=np.float32)
        members[self.cells, np.arange(len(self.cells))] = 1.0
        return (members @ self.right).round().astype(np.int64)

    def of_sentences(
        self, n_sentences: int, chosen: Int[ndarray, "cells"]
    ) -> tuple[Int[ndarray, "sentences cells"], Int[ndarray, "sentences cells"]]:
        """Arcs of each sentence, and those that the predictor finds that is `chosen` for the cell."""
        arcs, correct = (np.zeros((n_sentences, len(chosen)), dtype=np.int32) for _ in range(2))
        np.add.at(arcs, (self.sentences, self.cells), 1)
        np.add.at(correct, (self.sentences, self.cells), self.right[np.arange(len(self.cells)), chosen[self.cells]])
        return arcs, correct


def cells(sentences: Sequence[Sentence], at_least: int = 1) -> tuple[tuple[str, Direction], ...]:
    """Relations with `at_least` arcs, the most frequent first, in both directions; and "any", all of them together."""
    counts: dict[str, int] = {}
    for sentence in sentences:
        for _, _, relation in sentence.arcs:
            counts[relation] = counts.get(relation, 0) + 1
    frequent = sorted(
        (name for name, count in counts.items() if count >= at_least), key=lambda name: (-counts[name], name)
    )
    return tuple((name, direction) for name in ("any", *frequent) for direction in Direction)


def most_attended(attention: WordAttention, *, special_tokens: bool = False) -> Int[Tensor, "batch heads words"]:
    """The other word that each word attends to most. Of equal weights the first; -1 where all are 0 (a word without a token),
    and with `special_tokens` where a special token has a larger one."""
    n_words = attention.weights.shape[-1]
    lengths = torch.tensor([len(sentence) for sentence in attention.sentences])
    hidden = torch.eye(n_words, dtype=torch.bool) | (torch.arange(n_words) >= lengths[:, None])[:, None, None]
    largest, words = attention.weights.masked_fill(hidden, -1.0).max(dim=-1)
    nothing = largest <= 0
    return words.masked_fill(nothing | (attention.special > largest) if special_tokens else nothing, -1)


def match(
    sentences: Sequence[Sentence],
    predictions: Int[Tensor, "batch predictors words"],
    counted: Sequence[tuple[str, Direction]],
    *,
    causal: bool = False,
) -> Matches:
    """Hold what predictors attend to against the arcs. With `causal` only arcs to the left are counted, seen from the word that
    attends: no other one can be found."""
    index = {cell: position for position, cell in enumerate(counted)}
    pairs = [
        (row, query, key, cell)
        for row, sentence in enumerate(sentences)
        for dependent, head, relation in sentence.arcs
        for direction, query, key in (
            (Direction.TO_HEAD, dependent, head), (Direction.TO_DEPENDENT, head, dependent)
        )
        if key < query or not causal
        for name in ("any", relation)
        if (cell := index.get((name, direction))) is not None
    ]  # fmt: skip
    rows, queries, keys, cells_ = np.asarray(pairs, dtype=np.int64).reshape(-1, 4).T
    right = predictions.numpy()[rows, :, queries] == keys[:, None]
    return Matches(rows, cells_, right)


def offset_predictions(sentences: Sequence[Sentence]) -> Int[Tensor, "batch offsets words"]:
    """The words at each of OFFSETS; -1 where the sentence has none there."""
    lengths = torch.tensor([len(sentence) for sentence in sentences])[:, None, None]
    targets = torch.arange(int(lengths.max())) + torch.tensor(OFFSETS)[:, None]
    outside = (targets < 0) | (targets >= lengths)
    return targets.expand_as(outside).masked_fill(outside, -1)
