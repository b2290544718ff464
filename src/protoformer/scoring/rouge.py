"""ROUGE (Lin 2004): n-grams and subsequences of words that a summary shares with its reference, by torchmetrics.

F1 of `rouge1` and `rouge2`, of n-grams, and `rougeL`, of the longest common subsequence of the whole text. Words are runs of
letters and digits in small letters, without stemming; of several references the best counts.
"""

from collections.abc import Sequence
from typing import Literal, get_args

from torchmetrics.functional.text.rouge import rouge_score

Name = Literal["rouge1", "rouge2", "rougeL"]
METRICS: tuple[Name, ...] = get_args(Name)


def rouge(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, list[float]]:
    """F1 of each hypothesis, 0 to 1, by metric."""
    scores: dict[str, list[float]] = {name: [] for name in METRICS}
    for hypothesis, texts in zip(hypotheses, references, strict=True):
        # one at a time: the function gives the mean of several
        values = rouge_score([hypothesis], [list(texts)], accumulate="best", rouge_keys=METRICS)
        for name in METRICS:
            scores[name].append(float(values[f"{name}_fmeasure"]))
    return scores
