"""chrF (Popović 2015), by sacreBLEU: the F-score of character n-grams."""

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics import CHRF


@dataclass(frozen=True)
class Chrf:
    """A score, 0 to 100, and sacreBLEU's signature: how it was computed."""

    score: float
    signature: str


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> Chrf:
    """chrF of a corpus of detokenised texts, one reference each. Raises ValueError where counts differ or are 0."""
    if len(hypotheses) != len(references) or not references:
        raise ValueError(
            f"{len(hypotheses)} hypotheses and {len(references)} references: the numbers must be equal, and at least one"
        )
    metric = CHRF()
    result = metric.corpus_score(list(hypotheses), [list(references)])
    return Chrf(result.score, str(metric.get_signature()))
