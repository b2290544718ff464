"""Attention between words, from attention between tokens (Clark et al. 2019, arXiv 1906.04341, section 4.1).

Attention *to* a word of several tokens is the sum of the weights on them, attention *from* it the mean over its tokens; each
word's weights then still sum to one, with the special tokens'. Special tokens (and tokens of white space) are no words: the
largest weight on one of them is kept beside the weights between words.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from protoformer.syntax.treebank import Sentence

NO_WORD = -1


@dataclass(frozen=True)
class WordAttention:
    """Weights between the words of a batch of sentences, with zeros after the words of the shorter ones.

    `special` has the largest weight of each word on a token that is of no word.
    """

    sentences: Sequence[Sentence]
    weights: Float[Tensor, "batch heads words words"]
    special: Float[Tensor, "batch heads words"]


def words_of_tokens(token_offsets: Sequence[tuple[int, int]], word_offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The word that each token belongs to: that of its first character that is in a word. NO_WORD for special tokens, which
    have the offsets (0, 0), and for white space. Words that share their characters (parts of a contraction) share the first's
    tokens, see `shared_words`."""
    words = []
    for start, end in token_offsets:
        overlapping = (word for word, (begin, stop) in enumerate(word_offsets) if start < stop and begin < end)
        words.append(next(overlapping, NO_WORD) if end > start else NO_WORD)
    return words


def shared_words(word_offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The first word with the same characters, for each word: itself for all but the parts of a contraction."""
    first: dict[tuple[int, int], int] = {}
    return [first.setdefault(offsets, word) for word, offsets in enumerate(word_offsets)]


def between_words(
    weights: Float[Tensor, "batch heads queries keys"],
    query_words: Int[Tensor, "batch queries"],
    key_words: Int[Tensor, "batch keys"],
    sentences: Sequence[Sentence],
    shared: Sequence[Sequence[int]],
) -> WordAttention:
    """Weights between words; a word without a token has rows and columns of zeros. `shared` is that of `shared_words`."""
    n_words = max(map(len, sentences))
    queries, keys = (_membership(words, n_words, weights.dtype) for words in (query_words, key_words))
    averages = (queries / queries.sum(dim=1, keepdim=True).clamp(min=1)).transpose(1, 2)  # (batch, words, queries)
    from_words = averages[:, None] @ weights  # (batch, heads, words, keys)
    special = from_words.masked_fill((key_words != NO_WORD)[:, None, None], 0.0).amax(dim=-1)
    of_words = from_words @ keys[:, None]
    for index, first in enumerate(shared):
        if any(word != one for word, one in enumerate(first)):
            rows = torch.tensor([*first, *range(len(first), n_words)])
            of_words[index] = of_words[index][:, rows][:, :, rows]
            special[index] = special[index][:, rows]
    return WordAttention(sentences, of_words, special)


def _membership(
    words: Int[Tensor, "batch tokens"], n_words: int, dtype: torch.dtype
) -> Float[Tensor, "batch tokens words"]:
    """1 where a token is of a word; no word for NO_WORD."""
    member = torch.zeros(*words.shape, n_words + 1, dtype=dtype)
    member.scatter_(2, (words % (n_words + 1))[..., None], 1.0)  # NO_WORD = -1 is the last column
    return member[..., :n_words]
