"""Split of a corpus into documents to train on and documents that are held out."""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from protoformer.data.corpus.shards import Shards


def train_validation_split(
    corpus: Shards, fraction: float
) -> tuple[Int[ndarray, "train 2"], Int[ndarray, "validation 2"]]:
    """Documents to train on and held-out ones, as first sentence and one past the last.

    Of several documents those are held out whose numbers' hashes are below `fraction`: at least one, of four or more at least
    two (a sentence pair may need another document's text), never all. Of a single document its last sentences are held out;
    nothing of a single sentence.
    """
    starts = corpus.document_sentences()
    documents = np.stack([starts[:-1], starts[1:]], axis=1)
    nothing = documents[:0]
    if fraction <= 0:
        return documents, nothing
    if len(documents) == 1:
        held_out = min(max(1, round(fraction * corpus.sentences)), corpus.sentences - 1)
        cut = corpus.sentences - held_out
        if not held_out:
            return documents, nothing
        return np.array([[0, cut]]), np.array([[cut, corpus.sentences]])
    hashes = uniform_hash(np.arange(len(documents)))
    ranks = hashes.argsort().argsort()
    at_least = 2 if len(documents) > 3 else 1
    is_held_out = ((hashes < fraction) | (ranks < at_least)) & (ranks < len(documents) - 1)
    return documents[~is_held_out], documents[is_held_out]


def uniform_hash(numbers: Int[ndarray, "numbers"]) -> Float[ndarray, "numbers"]:
    """Hashes from 0 to below 1 (the mixing function of SplitMix64)."""
    mixed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed ^ (mixed >> np.uint64(31))) / 2.0**64
