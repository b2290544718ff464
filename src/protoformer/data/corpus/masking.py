"""Training targets of pretraining: masked tokens (arXiv 1810.04805, section 3.1 and appendix A.1) or next tokens.

Differs: BERT's own code draws the masks once and stores them; here they are drawn when a sequence is read.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from protoformer.errors import ConfigurationError


class MaskedSequence(NamedTuple):
    """A sequence as the model reads it, the positions to predict (in order), and the ids that belong there."""

    ids: Int[ndarray, "seq"]
    positions: Int[ndarray, "predictions"]
    target_ids: Int[ndarray, "predictions"]


class Draws(NamedTuple):
    """Positions to predict (in order), and for each a uniform number, which decides what stands there, and a random token."""

    positions: Int[ndarray, "predictions"]
    uniform: Float[ndarray, "predictions"]
    random_ids: Int[ndarray, "predictions"]


@dataclass(frozen=True)
class MaskedTokens:
    """Masked language modeling: a fraction `share` of a sequence's tokens is predicted.

    Of these the fraction `mask` becomes [MASK], `random` any token of the vocabulary, and the rest stays. With `whole_word`
    (BERT's later code) words are chosen, and all their tokens are predicted.
    """

    share: float = 0.15
    mask: float = 0.8
    random: float = 0.1
    whole_word: bool = False
    needs_mask: ClassVar[bool] = True
    left_to_right: ClassVar[bool] = False

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
    ) -> MaskedSequence:
        """`special` positions are never predicted; `is_continuation` marks tokens that continue the word before them."""
        drawn = self.draw(len(ids), special, is_continuation, vocab_size, max_predictions, generator)
        return MaskedSequence(self.corrupted(ids, drawn, mask_id), drawn.positions, ids[drawn.positions])

    def draw(
        self,
        length: int,
        special: Bool[ndarray, "seq"],
        is_continuation: Bool[ndarray, "seq"] | None,
        vocab_size: int,
        max_predictions: int,
        generator: np.random.Generator,
    ) -> "Draws":
        """All random numbers of a sequence of `length` tokens."""
        count = min(max_predictions, max(1, round(self.share * length)))
        candidates = np.flatnonzero(~special)
        if self.whole_word:
            assert is_continuation is not None
            positions = _whole_words(candidates, is_continuation, count, generator)
        else:
            positions = np.sort(generator.permutation(candidates)[:count])
        uniform = generator.random(len(positions))
        return Draws(positions, uniform, generator.integers(vocab_size, size=len(positions)))

    def corrupted(self, ids: Int[ndarray, "tokens"], drawn: "Draws", mask_id: int) -> Int[ndarray, "tokens"]:
        """A copy of the ids of one sequence or of several, where positions count through all of them, with their masks."""
        result, original = ids.copy(), ids[drawn.positions]
        other = np.where(drawn.uniform < self.mask + self.random, drawn.random_ids, original)
        result[drawn.positions] = np.where(drawn.uniform < self.mask, mask_id, other)
        return result


def _whole_words(
    candidates: Int[ndarray, "candidates"],
    is_continuation: Bool[ndarray, "seq"],
    budget: int,
    generator: np.random.Generator,
) -> Int[ndarray, "predictions"]:
    """Positions of random words, up to `budget` tokens; a word that does not fit is passed over."""
    begins_word = ~is_continuation[candidates]
    begins_word[:1] = True
    begins_word[1:] |= np.diff(candidates) > 1  # a special token stands between
    word = np.cumsum(begins_word) - 1  # of each candidate
    lengths = np.bincount(word).tolist()
    chosen = np.zeros(len(lengths), dtype=bool)
    for index in generator.permutation(len(lengths)).tolist():
        if lengths[index] <= budget:
            chosen[index] = True
            budget -= lengths[index]
            if not budget:
                break
    return candidates[chosen[word]]


@dataclass(frozen=True)
class NextTokens:
    """Left-to-right language modeling (section 5.1's baseline): every token but the first is predicted from those before it."""

    whole_word: ClassVar[bool] = False
    needs_mask: ClassVar[bool] = False
    left_to_right: ClassVar[bool] = True  # of use to a causal model alone: any other sees the target

    def __call__(
        self,
        ids: Int[ndarray, "seq"],
        special: Bool[ndarray, "seq"],
        is_continuation: Bool[ndarray, "seq"] | None,
        vocab_size: int,
        mask_id: int,
        max_predictions: int,
        generator: np.random.Generator,
    ) -> MaskedSequence:
        """Position i predicts token i + 1; nothing is drawn, and `max_predictions` does not apply."""
        return MaskedSequence(ids, np.arange(len(ids) - 1), ids[1:])
