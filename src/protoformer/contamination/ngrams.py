"""n-grams of words as 64-bit hashes.

A text is normalised as in GPT-2's paper (Radford et al. 2019, section 4): lower case, words of letters and digits alone, one
space between them; GPT-3's 13-grams are counted on the same form.

Two different n-grams have the same hash with a probability of about n / 2^64 for n stored ones: 5e-10 for ten billion.
"""

import hashlib
import re
from functools import lru_cache

import numpy as np
from jaxtyping import UInt64
from numpy import ndarray

WORD = re.compile(r"[^\W_]+")
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no position of an n-gram is lost modulo 2^64


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return WORD.findall(text.lower())


@lru_cache(maxsize=1_000_000)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "backslashreplace"), digest_size=8).digest(), "little")


def ngram_hashes(text_words: list[str], n: int) -> UInt64[ndarray, "ngrams"]:
    """A hash of each n consecutive words; none where there are fewer. Raises ValueError for n below 1."""
    if n < 1:
        raise ValueError(f"n {n}: must be at least 1")
    count = len(text_words) - n + 1
    if count < 1:
        return np.empty(0, dtype=np.uint64)
    hashes = np.fromiter(map(_word_hash, text_words), dtype=np.uint64, count=len(text_words))
    combined = np.zeros(count, dtype=np.uint64)
    for position in range(n):  # a polynomial of the words' hashes, modulo 2^64
        combined = combined * MULTIPLIER + hashes[position : position + count]
    return mixed(combined)


def mixed(values: UInt64[ndarray, "values"]) -> UInt64[ndarray, "values"]:
    """Values whose every bit depends on every bit of the input (the finaliser of splitmix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))
