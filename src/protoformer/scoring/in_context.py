"""Scores of answers by likelihood (arXiv 2005.14165, section 2.4).

A choice is the completion with the greatest score. Its score is log P(completion | context), or that divided by the
completion's number of tokens or of bytes, or minus log P(completion | a context without content), the paper's
P(completion | context) / P(completion | answer context). The name of the metric says which: `accuracy`, `accuracy_per_token`,
`accuracy_per_byte`, `accuracy_pmi` (pointwise mutual information).

Sums of floating-point numbers differ in their last digits with the order of batches. Scores within `TIE` of the best one are
therefore equal, and of equal ones the first is chosen.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Normalization = Literal["accuracy", "accuracy_per_token", "accuracy_per_byte", "accuracy_pmi"]
Metric = (
    Normalization
    | Literal[
        "accuracy_last_token",
        "accuracy_stop_word_filter",
        "accuracy_last_token_stop_word_filter",
        "exact_match",
        "f1",
        "f1_macro",
        "matthews_correlation",
        "pearson",
        "spearman",
        "bleu",
        "rouge1",
        "rouge2",
        "rougeL",
        "coqa_exact_match",
        "coqa_f1",
        "drop_exact_match",
        "drop_f1",
        "heq_d",
        "heq_q",
        "quac_f1",
    ]
)
NORMALIZATIONS: tuple[Normalization, ...] = ("accuracy", "accuracy_per_token", "accuracy_per_byte", "accuracy_pmi")
TIE = 1e-4  # nats; noise of a sum of a hundred float32 log-probabilities is a tenth of it


def choose(
    log_probs: Float[Tensor, "examples choices"],
    tokens: Int[Tensor, "examples choices"],
    text_bytes: Int[Tensor, "examples choices"],
    unconditional: Float[Tensor, "examples choices"] | None,
    normalization: Normalization,
) -> Int[Tensor, "examples"]:
    """The index of the best completion of each example; a completion that an example lacks has a log P of nan.

    Raises ValueError for `accuracy_pmi` without unconditional log-probabilities.
    """
    values = scores(log_probs, tokens, text_bytes, unconditional, normalization)
    best = values.max(1, keepdim=True).values
    # the first of those that are as good; `int` since argmax of booleans is not defined
    return (values >= best - TIE).int().argmax(1)


def scores(
    log_probs: Float[Tensor, "examples choices"],
    tokens: Int[Tensor, "examples choices"],
    text_bytes: Int[Tensor, "examples choices"],
    unconditional: Float[Tensor, "examples choices"] | None,
    normalization: Normalization,
) -> Float[Tensor, "examples choices"]:
    """What choices are chosen by; -inf of a choice that an example lacks."""
    if normalization == "accuracy_per_token":
        values = log_probs / tokens.clamp(min=1)
    elif normalization == "accuracy_per_byte":
        values = log_probs / text_bytes.clamp(min=1)
    elif normalization == "accuracy_pmi":
        if unconditional is None:
            raise ValueError("accuracy_pmi: there are no unconditional log-probabilities")
        values = log_probs - unconditional
    else:
        values = log_probs
    return values.nan_to_num(nan=-math.inf)


def standard_error(values: Sequence[float], groups: Sequence[int]) -> float:
    """Standard error of a mean over examples, of which those of one group (a passage) are not independent.

    With residuals r_i and the sum R_g of those of group g: sqrt(sum over g of R_g^2) / n, which without groups is the standard
    deviation divided by sqrt(n) (Cameron and Miller 2015, equation 6, for a mean).
    """
    residuals = torch.tensor(values, dtype=torch.double)
    residuals -= residuals.mean()
    sums = torch.zeros(max(groups) + 1, dtype=torch.double).index_add_(0, torch.tensor(groups), residuals)
    return float(sums.square().sum().sqrt() / len(values))


def spread(means: Sequence[float]) -> float:
    """Standard deviation of the means of several draws of shots (n - 1 in the denominator); 0 for one draw."""
    return float(torch.tensor(means, dtype=torch.double).std()) if len(means) > 1 else 0.0


def perplexity(log_probs: Sequence[float]) -> float:
    """exp of the mean of -log P over examples, each a whole completion (a word, of LAMBADA)."""
    return math.exp(min(700.0, -sum(log_probs) / len(log_probs)))
