"""What a model is to tell of a text: masked tokens (arXiv 1810.04805, section 3.1 and appendix A.1), or each next one.

Differs: BERT's own code draws the masks once and stores them; here they are drawn when a text is read.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

from protoformer.errors import ConfigurationError


class Masked(NamedTuple):
    """A text as the model reads it, the positions to tell (in order), and the ids that belong there."""

    ids: Int[ndarray, "seq"]
    positions: Int[ndarray, "predictions"]
    target_ids: Int[ndarray, "predictions"]


@dataclass(frozen=True)
class MaskedTokens:
    """`share` of a text's tokens are to be told: of these `mask` become [MASK], `random` any token of the vocabulary, and the
    rest stay. `whole_word` (BERT's later code) chooses words, all of whose tokens are told, instead of tokens."""

    share: float = 0.15
    mask: float = 0.8
    random: float = 0.1
    whole_word: bool = False
    needs_mask: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("share", "mask", "random"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"task.data.masking.{name}={getattr(self, name)}: must be from 0 to 1")
        if self.mask + self.random > 1:
            raise ConfigurationError(f"task.data.masking: mask={self.mask} and random={self.random} sum to more than 1")

    def __call__(
        self,
        ids: Int[ndarray, "seq"],
        special: Bool[ndarray, "seq"],
        is_continuation: Bool[ndarray, "seq"] | None,
        vocab_size: int,
        mask_id: int,
        max_predictions: int,
        generator: np.random.Generator,
    ) -> Masked:
        """`special` positions are never told; `is_continuation` says of a token that it goes on with the word before it."""
        number = min(max_predictions, max(1, round(self.share * len(ids))))
        free = np.flatnonzero(~special)
        if self.whole_word:
            assert is_continuation is not None
            positions = _whole_words(free, is_continuation, number, generator)
        else:
            positions = np.sort(generator.permutation(free)[:number])
        drawn = generator.random(len(positions))
        others = generator.integers(vocab_size, size=len(positions))
        corrupted = ids.copy()
        corrupted[positions] = np.where(
            drawn < self.mask, mask_id, np.where(drawn < self.mask + self.random, others, ids[positions])
        )
        return Masked(corrupted, positions, ids[positions])


def _whole_words(
    free: Int[ndarray, "free"], is_continuation: Bool[ndarray, "seq"], number: int, generator: np.random.Generator
) -> Int[ndarray, "predictions"]:
    """Words in a drawn order, each that still fits, up to `number` tokens."""
    begins = ~is_continuation[free]
    begins[:1] = True
    begins[1:] |= np.diff(free) > 1  # a special token stands between
    word = np.cumsum(begins) - 1  # of each free token
    lengths = np.bincount(word).tolist()
    chosen = np.zeros(len(lengths), dtype=bool)
    for drawn in generator.permutation(len(lengths)).tolist():
        if lengths[drawn] <= number:
            chosen[drawn] = True
            number -= lengths[drawn]
            if not number:
                break
    return free[chosen[word]]


@dataclass(frozen=True)
class NextTokens:
    """Every token but the first is to be told from those before it: the left-to-right rival of section 5.1."""

    whole_word: ClassVar[bool] = False
    needs_mask: ClassVar[bool] = False

    def __call__(
        self,
        ids: Int[ndarray, "seq"],
        special: Bool[ndarray, "seq"],
        is_continuation: Bool[ndarray, "seq"] | None,
        vocab_size: int,
        mask_id: int,
        max_predictions: int,
        generator: np.random.Generator,
    ) -> Masked:
        """Position i is to tell token i + 1. Nothing is drawn, and there is no bound on how many."""
        return Masked(ids, np.arange(len(ids) - 1), ids[1:])
