"""Attention between words, arcs that it finds, and its trees."""

import itertools

import pytest
import torch
from scipy.sparse.csgraph import minimum_spanning_tree
from torch import Tensor

from protoformer.syntax import linear_probe, relations, trees
from protoformer.syntax.linear_probe import ProbeExamples
from protoformer.syntax.relations import OFFSETS, Direction
from protoformer.syntax.treebank import Sentence
from protoformer.syntax.trees import gold_arcs
from protoformer.syntax.word_attention import NO_WORD, WordAttention, between_words, shared_words, words_of_tokens

# the red cat saw it .
SENTENCE = Sentence(
    text="the red cat saw it .",
    forms=("the", "red", "cat", "saw", "it", "."),
    offsets=((0, 3), (4, 7), (8, 11), (12, 15), (16, 18), (19, 20)),
    heads=(2, 2, 3, -1, 3, 3),
    relations=("det", "amod", "nsubj", "root", "obj", "punct"),
    parts_of_speech=("DET", "ADJ", "NOUN", "VERB", "PRON", "PUNCT"),
)


# go !
SHORT = Sentence("go !", ("go", "!"), ((0, 2), (3, 4)), (-1, 0), ("root", "punct"), ("VERB", "PUNCT"))


def attends(pairs: dict[int, int], words: int = 6) -> Tensor:
    """A head whose queries attend to one word each, those that are not named to the first."""
    weights = torch.zeros(1, words, words)
    for query in range(words):
        weights[0, query, pairs.get(query, 0)] = 1.0
    return weights


def batch(*heads: Tensor) -> WordAttention:
    """A batch of SENTENCE and SHORT: heads over the first, and equal weights over the second."""
    weights = torch.cat(heads)
    both = torch.stack([weights, torch.zeros_like(weights)])
    both[1, :, :2, :2] = 0.5
    return WordAttention([SENTENCE, SHORT], both, torch.zeros(2, len(weights), 6))


def test_tokens_belong_to_the_words_that_they_lie_in() -> None:
    tokens = [(0, 0), (0, 3), (4, 6), (6, 7), (7, 11), (11, 12), (12, 15), (0, 0)]  # " cat" with its space
    assert words_of_tokens(tokens, SENTENCE.offsets) == [NO_WORD, 0, 1, 1, 2, NO_WORD, 3, NO_WORD]
    assert shared_words([(0, 3), (0, 3), (4, 5)]) == [0, 0, 2]


def test_attention_to_a_split_word_is_summed_and_from_it_averaged() -> None:
    weights = torch.rand(1, 2, 5, 5, generator=torch.Generator().manual_seed(0)).softmax(-1)
    words = torch.tensor([[NO_WORD, 0, 1, 1, NO_WORD]])
    actual = between_words(weights, words, words, [SENTENCE], [[0, 1, 2, 2, 4, 5]])
    of_words, (own,) = actual.weights[0], weights
    assert of_words[:, 0, 1] == pytest.approx(own[:, 1, 2] + own[:, 1, 3])
    assert of_words[:, 1, 0] == pytest.approx((own[:, 2, 1] + own[:, 3, 1]) / 2)
    assert of_words[:, 2].abs().sum() == of_words[:, :, 2].abs().sum() == 0  # a word without a token
    special = own[..., [0, 4]].sum(-1)
    assert of_words[:, 0].sum(-1) + special[:, 1] == pytest.approx(torch.ones(2))
    assert actual.special[0, :, 0] == pytest.approx(own[:, 1, [0, 4]].amax(-1))


def test_parts_of_a_contraction_share_their_tokens() -> None:
    weights = torch.rand(1, 1, 2, 2, generator=torch.Generator().manual_seed(0)).softmax(-1)
    words = torch.tensor([[0, 1]])
    actual = between_words(weights, words, words, [SENTENCE], [[0, 1, 1, 1, 4, 5]]).weights[0, 0]
    assert torch.equal(actual[1], actual[2])
    assert torch.equal(actual[:, 1], actual[:, 3])


def test_arcs_that_a_head_finds_in_both_directions() -> None:
    counted = relations.cells([SENTENCE, SHORT])
    assert [name for name, _ in counted[::2]] == ["any", "amod", "det", "nsubj", "obj"]
    attention = batch(attends({0: 2, 1: 2, 2: 2, 3: 2, 4: 3}))
    heads = relations.most_attended(attention)
    assert heads[0, 0, 2] == -1  # itself does not count, and no other word has a weight
    assert heads[1, 0, 0] == 1
    matches = relations.match(attention.sentences, heads, counted)
    correct = dict(zip(counted, matches.correct(10)[:, 0].tolist(), strict=True))
    assert correct["det", Direction.TO_HEAD] == correct["amod", Direction.TO_HEAD] == 1
    assert correct["nsubj", Direction.TO_HEAD] == 0
    assert correct["nsubj", Direction.TO_DEPENDENT] == 1
    assert correct["any", Direction.TO_HEAD] == 3
    assert matches.arcs(10).tolist() == [4, 4, 1, 1, 1, 1, 1, 1, 1, 1]
    arcs, chosen = matches.of_sentences(2, torch.zeros(10, dtype=torch.long).numpy())
    assert arcs[0].tolist() == matches.arcs(10).tolist()
    assert arcs[1].sum() == 0  # its only arc is of punctuation
    assert chosen[0].tolist() == matches.correct(10)[:, 0].tolist()


def test_causal_attention_is_held_against_arcs_to_the_left() -> None:
    counted = relations.cells([SENTENCE])
    heads = relations.most_attended(batch(attends({3: 2, 4: 3})))
    matches = relations.match([SENTENCE, SHORT], heads, counted, causal=True)
    arcs = dict(zip(counted, matches.arcs(10).tolist(), strict=True))
    assert arcs["obj", Direction.TO_HEAD] == 1
    assert arcs["nsubj", Direction.TO_HEAD] == 0
    assert arcs["nsubj", Direction.TO_DEPENDENT] == 1
    assert arcs["any", Direction.TO_HEAD] + arcs["any", Direction.TO_DEPENDENT] == 4


def test_a_word_that_attends_to_a_special_token_finds_nothing_where_these_count() -> None:
    attention = batch(attends({0: 2, 1: 2}) * 0.4)
    attention.special[0, 0, 1] = 0.5
    assert relations.most_attended(attention)[0, 0, :2].tolist() == [2, 2]
    assert relations.most_attended(attention, special_tokens=True)[0, 0, :2].tolist() == [2, -1]


def test_a_word_without_a_token_finds_nothing_not_even_the_first_word() -> None:
    """As `not` of `cannot`, where that is one token: all of its weights are 0."""
    attention = batch(attends({0: 2, 3: 0}))
    attention.weights[0, :, [1, 3]] = 0.0
    heads = relations.most_attended(attention)
    assert heads[0, 0].tolist() == [2, -1, 0, -1, 0, 0]
    first = Sentence("saw it", ("saw", "it"), ((0, 3), (3, 5)), (-1, 0), ("root", "obj"), ("VERB", "PRON"))
    weights = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])  # of one token, that of the first word
    matches = relations.match(
        [first],
        relations.most_attended(WordAttention([first], weights, torch.zeros(1, 1, 2))),
        relations.cells([first]),
    )
    assert matches.correct(4).sum() == 0


def test_fixed_offsets() -> None:
    counted = relations.cells([SENTENCE])
    predictions = relations.offset_predictions([SENTENCE, SHORT])
    accuracy = relations.match([SENTENCE, SHORT], predictions, counted).correct(10)
    to_head = {name: accuracy[2 * index] for index, name in enumerate(["any", "amod", "det", "nsubj", "obj"])}
    assert to_head["det"][OFFSETS.index(2)] == to_head["obj"][OFFSETS.index(-1)] == 1
    assert to_head["any"][OFFSETS.index(1)] == 2
    assert predictions[1].max() == 1


def test_spanning_trees_weigh_as_much_as_scipys() -> None:
    weights = torch.rand(3, 20, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    lengths = torch.tensor([9, 5, 2])
    all_trees = trees.spanning_trees(weights, lengths)
    for row, length in enumerate(lengths.tolist()):
        for matrix, tree in zip(weights[row], all_trees[row, :, :length], strict=True):
            edges = torch.maximum(matrix, matrix.T)[:length, :length]
            ours = sum(float(edges[word, neighbour]) for word, neighbour in enumerate(tree.tolist()) if neighbour >= 0)
            least = minimum_spanning_tree((2 - edges).fill_diagonal_(0).numpy())
            assert ours == pytest.approx(2 * (length - 1) - float(least.sum()))
            assert (tree == -1).sum() == 1
            assert tree.max() < length


def test_trees_share_edges_with_the_gold_tree_in_any_direction() -> None:
    attention = batch(attends({0: 2, 1: 2, 2: 3, 3: 2, 4: 3}))
    gold = gold_arcs(attention.sentences)
    assert gold.lengths.tolist() == [5, 1]
    chain = trees.shared_edges(trees.offset_trees(5, 1).expand(2, 1, 5), gold)
    assert chain.tolist() == [[3], [0]]  # red-cat, cat-saw, saw-it
    between = trees.without_punctuation(attention)
    assert between.shape == (2, 1, 5, 5)
    assert trees.shared_edges(trees.spanning_trees(between, gold.lengths), gold).tolist() == [[4], [0]]
    assert trees.offset_trees(5, 2)[0, 0].tolist() == [-1, 0, 0, 1, 2]


def test_the_probe_learns_which_heads_point_where() -> None:
    """Two of five heads together know every arc; the others are noise."""
    noise = torch.rand(40, 5, 5, 5, generator=torch.Generator().manual_seed(0)) * 0.3
    noise[:, 1, [0, 1], [2, 2]] += 1.0
    noise[:, 3, [3, 3], [2, 4]] += 1.0  # from the head to its dependents
    examples = ProbeExamples(noise, gold_arcs([SENTENCE] * 40))
    probe = linear_probe.fit([examples])
    assert linear_probe.correct(probe, examples).tolist() == [4] * 40
    outward, inward = probe.weight
    assert outward[1] > outward[[0, 2, 3, 4]].max()
    assert inward[3] > inward[[0, 1, 2, 4]].max()
    with pytest.raises(ValueError, match="no arc"):
        linear_probe.fit([ProbeExamples(noise[:1, :, :1, :1], gold_arcs([SHORT]))])


def test_the_probes_scores_are_the_formula() -> None:
    probe = linear_probe.AttentionProbe(2).requires_grad_(False)
    probe.weight.copy_(torch.tensor([[1.0, -0.5], [0.3, 2.0]]))
    weights = torch.rand(1, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    gold = gold_arcs([SENTENCE])
    actual = probe(ProbeExamples(weights, gold))
    for row, other in itertools.product(range(4), range(5)):
        word = int(gold.dependents[row])
        expected = sum(
            float(probe.weight[0, k] * weights[0, k, word, other] + probe.weight[1, k] * weights[0, k, other, word])
            for k in range(2)
        )
        assert actual[row, other] == (pytest.approx(expected, abs=1e-6) if other != word else -torch.inf)


def test_a_probe_of_distances_learns_the_commonest_one() -> None:
    gold = gold_arcs([SENTENCE] * 3)
    examples = ProbeExamples(linear_probe.offset_weights(gold, 5, 3), gold)
    assert examples.weights[0, 0].sum() == 4  # each word but the first has one before it
    assert linear_probe.correct(linear_probe.fit([examples]), examples)[0] >= 2
