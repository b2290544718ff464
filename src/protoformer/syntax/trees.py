"""Undirected trees of attention: the maximum spanning tree of a head's weights, held against the gold arcs (UUAS).

The weight of the edge between two words is the larger of the two weights between them (Htut et al. 2019, arXiv 1911.12246,
section 3.2 has the directed tree from the gold root; without a root there is no direction to be right about). Trees are of the
words without punctuation; gold arcs with punctuation on an end are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from protoformer.syntax.treebank import PUNCTUATION, Sentence
from protoformer.syntax.word_attention import WordAttention


@dataclass(frozen=True)
class GoldArcs:
    """Arcs of a batch of sentences: the row of the sentence, and dependent and head numbered among its words without
    punctuation. `lengths` are the numbers of these words."""

    sentences: Int[Tensor, "arcs"]
    dependents: Int[Tensor, "arcs"]
    heads: Int[Tensor, "arcs"]
    lengths: Int[Tensor, "batch"]

    def per_sentence(self, of_arcs: Tensor) -> Tensor:
        """Sums over the arcs of each sentence, of numbers whose first dimension are arcs."""
        sums = torch.zeros(len(self.lengths), *of_arcs.shape[1:], dtype=torch.long)
        return sums.index_add(0, self.sentences, of_arcs.long())


def kept_words(sentence: Sentence) -> list[int]:
    """All words but punctuation."""
    return [word for word, part in enumerate(sentence.parts_of_speech) if part != PUNCTUATION]


def gold_arcs(sentences: Sequence[Sentence]) -> GoldArcs:
    """The arcs between words without punctuation."""
    kept = [kept_words(sentence) for sentence in sentences]
    rows = []
    for row, (sentence, words) in enumerate(zip(sentences, kept, strict=True)):
        position = {word: number for number, word in enumerate(words)}
        rows += [(row, position[dependent], position[head]) for dependent, head, _ in sentence.arcs]
    table = torch.tensor(rows, dtype=torch.long).reshape(-1, 3)
    return GoldArcs(table[:, 0], table[:, 1], table[:, 2], torch.tensor([len(words) for words in kept]))


def without_punctuation(attention: WordAttention) -> Float[Tensor, "batch heads kept kept"]:
    """Weights between the words that are no punctuation, with zeros after the words of the shorter sentences."""
    kept = [kept_words(sentence) for sentence in attention.sentences]
    longest = max(1, *map(len, kept))
    batch, heads = attention.weights.shape[:2]
    between = attention.weights.new_zeros(batch, heads, longest, longest)
    for row, words in enumerate(kept):
        between[row, :, : len(words), : len(words)] = attention.weights[row][:, words][:, :, words]
    return between


def spanning_trees(
    weights: Float[Tensor, "batch predictors words words"], lengths: Int[Tensor, "batch"]
) -> Int[Tensor, "batch predictors words"]:
    """The maximum spanning tree of each matrix, by Prim's algorithm for all of them at once: the neighbour through which each
    word was joined, -1 for the first word. The larger of the weights in both directions counts; words from `lengths` on are
    joined last, and mean nothing."""
    batch, predictors, words, _ = weights.shape
    outside = torch.arange(words) >= lengths[:, None]  # (batch, words)
    edges = torch.maximum(weights, weights.transpose(2, 3)).masked_fill(outside[:, None, None], -1.0)
    edges = edges.reshape(batch * predictors, words, words)
    every = torch.arange(len(edges))
    neighbour = torch.zeros(len(edges), words, dtype=torch.long)
    neighbour[:, 0] = -1
    best = edges[:, 0].clone()  # of each word that has not been joined: the weight of its best edge into the tree
    best[:, 0] = -torch.inf  # joined
    for _ in range(words - 1):
        new = best.argmax(dim=1)  # (trees,)
        best[every, new] = -torch.inf
        from_new = edges[every, new]
        better = (from_new > best) & (best > -torch.inf)
        best = torch.where(better, from_new, best)
        neighbour = torch.where(better, new[:, None], neighbour)
    return neighbour.reshape(batch, predictors, words)


def shared_edges(trees: Int[Tensor, "batch predictors words"], gold: GoldArcs) -> Int[Tensor, "batch predictors"]:
    """Numbers of edges that trees share with the gold tree of their sentence, in whatever direction."""
    rows, dependents, heads = gold.sentences, gold.dependents, gold.heads
    forward = trees[rows, :, dependents] == heads[:, None]
    backward = trees[rows, :, heads] == dependents[:, None]
    return gold.per_sentence(forward | backward)


def offset_trees(words: int, offset: int) -> Int[Tensor, "1 1 words"]:
    """Each word joined with the one `offset` before it, and the first few with the one before them; 1 is right-branching."""
    positions = torch.arange(words)
    return torch.where(positions >= offset, positions - offset, positions - 1)[None, None]
