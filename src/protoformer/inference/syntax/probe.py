"""What the heads of a model find of a treebank's trees: chosen on one treebank, reported on another.

The best of 144 heads is partly luck: on the data it is chosen on it looks better than it is. So heads, offsets, ensembles and
probes are chosen (or trained) on one treebank (`choose`), and every number is of another one (`report`). Both read sentences in
batches and keep counts; `choose` keeps the weights of some sentences too, at most MAX_KEPT of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from protoformer.syntax import linear_probe, relations, trees
from protoformer.syntax.linear_probe import AttentionProbe, ProbeExamples
from protoformer.syntax.relations import MAX_OFFSET, Direction, Matches
from protoformer.syntax.treebank import Sentence
from protoformer.syntax.trees import GoldArcs
from protoformer.syntax.word_attention import WordAttention

ENSEMBLES = (1, 2, 4, 8, 16)  # numbers of heads whose weights are averaged
MAX_KEPT = 2**28  # weights of the linear probe's sentences, in half precision: 512 MiB
BATCH = 64  # sentences of a batch that no model reads


@dataclass(frozen=True)
class Counting:
    """Which arcs are counted. `causal`: those to the left alone. `special_tokens`: a word that attends to one of them most
    finds no arc, where otherwise the largest weight between words counts. Cells with fewer arcs than `at_least` are not
    reported."""

    cells: tuple[tuple[str, Direction], ...]
    causal: bool = False
    special_tokens: bool = False
    at_least: int = 1

    def of_heads(self, batch: WordAttention) -> Matches:
        predictions = relations.most_attended(batch, special_tokens=self.special_tokens)
        return relations.match(batch.sentences, predictions, self.cells, causal=self.causal)

    def of_offsets(self, sentences: Sequence[Sentence]) -> Matches:
        return relations.match(sentences, relations.offset_predictions(sentences), self.cells, causal=self.causal)


@dataclass(frozen=True)
class Choice:
    """The best head of each cell, the heads whose trees are best (the best one first), and a linear probe of all heads.

    `relation` is for each head the cell in which it is farthest above the best fixed offset, and `gain` by how much (-1 where
    no cell has arcs enough, see `Counting`).
    """

    heads: Int[ndarray, "cells"]
    ensemble: list[int]
    probe: AttentionProbe
    relation: Int[ndarray, "heads"]
    gain: Float[ndarray, "heads"]


@dataclass(frozen=True)
class Baseline:
    """The best offset of each cell with its accuracy, and a linear probe of distances."""

    offsets: Int[ndarray, "cells"]
    accuracy: Float[ndarray, "cells"]
    probe: AttentionProbe


@dataclass(frozen=True)
class Report:
    """Counts for each sentence of a treebank. `correct` are those of all heads over all sentences."""

    arcs: Int[ndarray, "sentences cells"]
    by_head: Int[ndarray, "sentences cells"]
    by_offset: Int[ndarray, "sentences cells"] | None
    edges: Int[ndarray, "sentences"]
    trees: dict[str, Int[ndarray, "sentences"]]
    correct: Int[ndarray, "cells heads"]

    def accuracy(self) -> Float[ndarray, "cells heads"]:
        """Fraction of the arcs that each head finds; 0 for a cell without an arc."""
        return _accuracy(self.correct, self.arcs.sum(axis=0))


def kept_sentences(sentences: Sequence[Sentence], heads: int) -> list[Sentence]:
    """The first sentences, so many that the weights of all heads between their words fit MAX_KEPT."""
    sizes = np.cumsum([heads * len(trees.kept_words(sentence)) ** 2 for sentence in sentences])
    return list(sentences[: max(1, int((sizes <= MAX_KEPT).sum()))])


def choose_baseline(sentences: Sequence[Sentence], counting: Counting) -> Baseline:
    """The best offsets, and a probe of distances."""
    ordered = sorted(sentences, key=len)
    batches = [ordered[first : first + BATCH] for first in range(0, len(ordered), BATCH)]
    matches = [counting.of_offsets(batch) for batch in batches]
    correct, arcs = (
        [count(each, len(counting.cells)) for each in matches] for count in (Matches.correct, Matches.arcs)
    )
    accuracy = _accuracy(np.sum(correct, axis=0), np.sum(arcs, axis=0))
    examples = [_distances(trees.gold_arcs(batch)) for batch in batches]
    return Baseline(accuracy.argmax(axis=1), accuracy.max(axis=1), linear_probe.fit(examples))


def choose(
    attended: Iterable[WordAttention], counting: Counting, baseline: Baseline, kept: Sequence[Sentence]
) -> Choice:
    """The best heads, and a probe that is trained on the sentences `kept`."""
    identities = {id(sentence) for sentence in kept}
    examples = list[ProbeExamples]()
    n_cells = len(counting.cells)
    correct, arcs = np.zeros(1, dtype=np.int64), np.zeros(n_cells, dtype=np.int64)
    of_trees = torch.zeros(1, dtype=torch.long)
    for batch in attended:
        matches = counting.of_heads(batch)
        correct, arcs = correct + matches.correct(n_cells), arcs + matches.arcs(n_cells)
        weights, gold = trees.without_punctuation(batch), trees.gold_arcs(batch.sentences)
        of_trees = of_trees + trees.shared_edges(trees.spanning_trees(weights, gold.lengths), gold).sum(dim=0)
        chosen = [row for row, sentence in enumerate(batch.sentences) if id(sentence) in identities]
        if chosen:
            again = trees.gold_arcs([batch.sentences[row] for row in chosen])
            examples.append(ProbeExamples(weights[chosen].half(), again))
    accuracy = _accuracy(correct, arcs)
    # of a causal model a direction of a relation may have hardly any arc
    gains = np.where(arcs[:, None] >= counting.at_least, accuracy - baseline.accuracy[:, None], -1.0)
    gains = gains[2:] if n_cells > 2 else gains
    order = of_trees.argsort(descending=True, stable=True).tolist()
    sizes = [size for size in ENSEMBLES if size <= len(order)]
    scores = [sum(int(_ensemble(each, order[:size]).sum()) for each in examples) for size in sizes]
    return Choice(
        accuracy.argmax(axis=1),
        order[: sizes[int(np.argmax(scores))]],
        linear_probe.fit(examples),
        gains.argmax(axis=0) + (n_cells - len(gains)),
        gains.max(axis=0),
    )


def report(
    attended: Iterable[WordAttention], counting: Counting, choice: Choice, baseline: Baseline | None = None
) -> Report:
    """What the chosen heads find, and beside them the baseline where one is given."""
    columns: dict[str, list[ndarray]] = {}
    correct = np.zeros(1, dtype=np.int64)
    for batch in attended:
        matches = counting.of_heads(batch)
        correct = correct + matches.correct(len(counting.cells))
        for name, column in _columns(batch, counting, choice, baseline, matches).items():
            columns.setdefault(name, []).append(column)
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    arcs, by_head, by_offset, edges = (joined.pop(name, None) for name in ("arcs", "by head", "by offset", "edges"))
    assert arcs is not None
    assert by_head is not None
    assert edges is not None
    return Report(arcs, by_head, by_offset, edges, joined, correct)


def _columns(
    batch: WordAttention, counting: Counting, choice: Choice, baseline: Baseline | None, matches: Matches
) -> dict[str, ndarray]:
    """Counts of each sentence of a batch."""
    arcs, by_head = matches.of_sentences(len(batch.sentences), choice.heads)
    gold = trees.gold_arcs(batch.sentences)
    examples = ProbeExamples(trees.without_punctuation(batch), gold)
    edges = gold.per_sentence(torch.ones_like(gold.heads))
    columns = {"arcs": arcs, "by head": by_head, "edges": edges.numpy()}
    if baseline is not None:
        of_offsets = counting.of_offsets(batch.sentences)
        columns["by offset"] = of_offsets.of_sentences(len(batch.sentences), baseline.offsets)[1]
        words = examples.weights.shape[-1]
        for name, offset in (("right-branching", 1), ("offset 2", 2)):
            same = trees.offset_trees(words, offset).expand(len(batch.sentences), 1, words)
            columns[name] = trees.shared_edges(same, gold)[:, 0].numpy()
    columns["best head"] = _ensemble(examples, choice.ensemble[:1]).numpy()
    columns["ensemble"] = _ensemble(examples, choice.ensemble).numpy()
    if baseline is not None:
        columns["probe of distances"] = linear_probe.correct(baseline.probe, _distances(gold)).numpy()
    columns["probe"] = linear_probe.correct(choice.probe, examples).numpy()
    return columns


def _ensemble(examples: ProbeExamples, heads: Sequence[int]) -> Int[torch.Tensor, "batch"]:
    """Edges that the tree of the heads' mean weights shares with each gold tree."""
    mean = examples.weights[:, list(heads)].float().mean(dim=1, keepdim=True)
    return trees.shared_edges(trees.spanning_trees(mean, examples.gold.lengths), examples.gold)[:, 0]


def _distances(gold: GoldArcs) -> ProbeExamples:
    words = max(1, int(gold.lengths.max()))
    return ProbeExamples(linear_probe.offset_weights(gold, words, MAX_OFFSET), gold)


def _accuracy(correct: ndarray, arcs: ndarray) -> Float[ndarray, "cells predictors"]:
    return correct / np.maximum(arcs, 1)[:, None]
