"""Bloom filter (Bloom 1970): a set that never forgets a member, and takes others for members with a small probability.

With m bits, k hashes and n members a value that is none is taken for one with probability (1 - exp(-k n / m))^k. For a capacity
of n and a bound p the least memory is m = -n ln p / (ln 2)^2 bits with k = (m / n) ln 2 hashes: 38 bits a member and 27 hashes
for 1e-8, the bound of GPT-2's paper (Radford et al. 2019, section 4).
"""

import math

import numpy as np
from jaxtyping import Bool, UInt64
from numpy import ndarray

from protoformer.contamination.ngrams import mixed

CHUNK = 1 << 18  # values that are hashed at once


class BloomFilter:
    """A set of 64-bit hashes for `capacity` members. Raises ValueError for a capacity below 1 and a bound outside (0, 1)."""

    def __init__(self, capacity: int, bound: float = 1e-8) -> None:
        if capacity < 1 or not 0 < bound < 1:
            raise ValueError(f"capacity {capacity} and bound {bound}: at least 1, and between 0 and 1")
        self.size = max(64, math.ceil(-capacity * math.log(bound) / math.log(2) ** 2))
        self.hashes = max(1, round(self.size / capacity * math.log(2)))
        self.added = 0  # with those that came several times
        self._bits = np.zeros((self.size + 7) // 8, dtype=np.uint8)

    @property
    def memory(self) -> int:
        """Bytes of the filter."""
        return self._bits.nbytes

    @property
    def false_positive_rate(self) -> float:
        """A bound on the probability that a value that was never added is found: every added one is counted as new."""
        return (1 - math.exp(-self.hashes * self.added / self.size)) ** self.hashes

    def add(self, values: UInt64[ndarray, "values"]) -> None:
        for start in range(0, len(values), CHUNK):
            positions = self._positions(values[start : start + CHUNK]).ravel()
            np.bitwise_or.at(self._bits, positions >> 3, np.uint8(1) << (positions & 7).astype(np.uint8))
        self.added += len(values)

    def contains(self, values: UInt64[ndarray, "values"]) -> Bool[ndarray, "values"]:
        matches = [self._contains(values[start : start + CHUNK]) for start in range(0, len(values), CHUNK)]
        return np.concatenate(matches) if matches else np.zeros(0, dtype=bool)

    def _contains(self, values: UInt64[ndarray, "values"]) -> Bool[ndarray, "values"]:
        positions = self._positions(values)
        return np.asarray(((self._bits[positions >> 3] >> (positions & 7).astype(np.uint8)) & 1).all(0))

    def _positions(self, values: UInt64[ndarray, "values"]) -> ndarray:
        """The bits of each value, `(hashes, values)`: h + i g modulo m, with two hashes h and g (Kirsch, Mitzenmacher 2006)."""
        steps = mixed(values) | np.uint64(1)
        number = np.arange(self.hashes, dtype=np.uint64)[:, None]
        return ((values + number * steps) % np.uint64(self.size)).astype(np.int64)
