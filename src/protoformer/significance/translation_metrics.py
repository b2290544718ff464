"""BLEU and chrF of resampled corpora, from the n-gram counts of each pair of hypothesis and reference.

Both are sacreBLEU's numbers: with every pair counted once they equal `scoring.bleu` and `scoring.chrf`.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics import BLEU

from protoformer.scoring.bleu_tokenizers import tokenizer_of
from protoformer.significance.metrics import SumMetric, Sums, Values

BLEU_ORDERS = 4
CHRF_ORDERS = 6
BETA = 2  # recall counts beta times as much as precision


def bleu(
    hypotheses: Sequence[str], references: Sequence[str], tokenize: str | None = None, *, language: str | None = None
) -> SumMetric:
    """BLEU, 0 to 1. `tokenize` is sacreBLEU's tokenizer; None: that of the references' script and `language`."""
    metric = BLEU(tokenize=tokenize or tokenizer_of(references, language), force=True, effective_order=True)
    table = []
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        counts = metric.sentence_score(hypothesis, [reference])
        table.append([counts.sys_len, counts.ref_len, *counts.counts, *counts.totals])
    return SumMetric(np.asarray(table, dtype=float), _bleu)


def _bleu(sums: Sums) -> Values:
    """With sacreBLEU's smoothing, "exp": the k-th order without a match counts 2^-k matches; 0 without any match."""
    hypothesis, reference = sums[..., 0], sums[..., 1]
    matches, total = sums[..., 2 : 2 + BLEU_ORDERS], sums[..., 2 + BLEU_ORDERS :]
    smoothed = np.where(matches > 0, matches, 0.5 ** np.cumsum(matches == 0, axis=-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.log(smoothed / total).mean(axis=-1)
        brevity = np.minimum(0, 1 - reference / hypothesis)
        values = np.exp(precision + brevity)
    return np.where((total > 0).all(axis=-1) & (matches > 0).any(axis=-1), values, 0.0)


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> SumMetric:
    """chrF2 of character n-grams up to six, without white space, 0 to 1."""
    table = [
        [count for order in range(1, CHRF_ORDERS + 1) for count in _ngram_counts(hypothesis, reference, order)]
        for hypothesis, reference in (
            ("".join(a.split()), "".join(b.split())) for a, b in zip(hypotheses, references, strict=True)
        )
    ]
    return SumMetric(np.asarray(table, dtype=float), _chrf)


def _ngram_counts(hypothesis: str, reference: str, order: int) -> tuple[int, int, int]:
    """n-grams of the hypothesis, of the reference, and those that are in both, each at most as often as in the reference."""
    ours, theirs = (
        Counter(text[i : i + order] for i in range(len(text) - order + 1)) for text in (hypothesis, reference)
    )
    # sacreBLEU counts no n-grams of a hypothesis whose reference has none
    return (ours.total() if theirs else 0), theirs.total(), (ours & theirs).total()


def _chrf(sums: Sums) -> Values:
    """F-beta of the precision and the recall, each averaged over the orders that both sides have n-grams of."""
    hypothesis, reference, both = (sums[..., start::3] for start in range(3))
    present = (hypothesis > 0) & (reference > 0)
    orders = np.maximum(present.sum(axis=-1), 1)
    precision, recall = (
        np.where(present, both / np.maximum(side, 1e-12), 0).sum(axis=-1) / orders for side in (hypothesis, reference)
    )
    below = BETA**2 * precision + recall
    return np.where(below > 0, (1 + BETA**2) * precision * recall / np.maximum(below, 1e-300), 0.0)
