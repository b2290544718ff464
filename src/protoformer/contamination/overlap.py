"""Overlap of test sets with a training corpus.

Two measures. Of 8-grams: the fraction of a test set's that stand in the corpus (Radford et al. 2019, section 4, table 6). Of
examples: one is dirty where any of its N-grams stands in the corpus, N being the 5th percentile of the examples' lengths in
words, between 8 and 13 (arXiv 2005.14165, appendix C); the score on the clean rest stands beside that on all.

Differs: GPT-3's paper leaves N-grams out that occur more than ten times in the corpus; they count here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from protoformer.contamination.bloom import BloomFilter
from protoformer.contamination.ngrams import ngram_hashes, words

EIGHT = 8
SHORTEST, LONGEST = 8, 13  # of N
PERCENTILE = 5
WORDS_AT_ONCE = 100_000


class CorpusNgrams:
    """The n-grams of a corpus, for each length that is asked for."""

    def __init__(self, lengths: Iterable[int], capacity: int, bound: float = 1e-8) -> None:
        self.filters = {n: BloomFilter(capacity, bound) for n in sorted(set(lengths))}
        self.documents = self.words = 0

    def add(self, text: str) -> None:
        """Add a document."""
        self.add_lines([text])

    def add_lines(self, lines: Iterable[str]) -> None:
        """Add a document line by line, so that it need not be in memory; n-grams reach over the ends of lines."""
        self.documents += 1
        pending: list[str] = []
        for line in lines:
            pending += words(line)
            if len(pending) >= WORDS_AT_ONCE:
                pending = self._add(pending)
        self._add(pending, last=True)

    def _add(self, text_words: list[str], last: bool = False) -> list[str]:
        """Add n-grams; gives the words with which those of the next piece begin."""
        longest = max(self.filters)
        kept = 0 if last else longest - 1
        for n, each in self.filters.items():
            # those that begin in the words that are kept come with the next piece
            hashes = ngram_hashes(text_words, n)
            each.add(hashes if last else hashes[: len(text_words) - kept])
        self.words += len(text_words) - kept
        return text_words[len(text_words) - kept :]


@dataclass(frozen=True)
class TestSet:
    """The examples of a split as words. `ids` are those of its predictions."""

    __test__ = False  # no test of pytest's

    name: str
    ids: Sequence[int]
    examples: Sequence[Sequence[str]]

    @classmethod
    def of_texts(cls, name: str, texts: Mapping[int, str]) -> "TestSet":
        return cls(name, list(texts), [words(text) for text in texts.values()])

    @property
    def n(self) -> int:
        """Length of the n-grams by which an example is dirty."""
        lengths = [len(example) for example in self.examples]
        return int(np.clip(np.percentile(lengths, PERCENTILE), SHORTEST, LONGEST)) if lengths else LONGEST


@dataclass(frozen=True)
class Overlap:
    """What of a test set stands in a corpus. `dirty[i]` is of example i; an example without N-grams is clean."""

    eight_grams: int
    matching_eight_grams: int
    n: int
    dirty: Bool[ndarray, "examples"]

    @property
    def fraction(self) -> float:
        """Of the 8-grams, those that stand in the corpus."""
        return self.matching_eight_grams / max(1, self.eight_grams)


def overlap(test_set: TestSet, corpus: CorpusNgrams) -> Overlap:
    """Raises KeyError where the corpus has no n-grams of the lengths that the test set needs."""
    n, eights, dirty = test_set.n, corpus.filters[EIGHT], []
    total = matches = 0
    for example in test_set.examples:
        in_corpus = eights.contains(ngram_hashes(list(example), EIGHT))
        total, matches = total + len(in_corpus), matches + int(in_corpus.sum())
        dirty.append(bool(corpus.filters[n].contains(ngram_hashes(list(example), n)).any()))
    return Overlap(total, matches, n, np.asarray(dirty, dtype=bool))


def clean_score(scores: Mapping[int, float], test_set: TestSet, dirty: Bool[ndarray, "examples"]) -> float | None:
    """The mean of a metric over the clean examples; None where there are none with a score."""
    clean = [
        scores[number]
        for number, is_dirty in zip(test_set.ids, dirty, strict=True)
        if not is_dirty and number in scores
    ]
    return sum(clean) / len(clean) if clean else None
