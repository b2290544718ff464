"""Choices by likelihood, standard errors, perplexity."""

import math

import pytest
import torch

from protoformer.scoring import in_context

# log P, tokens and bytes of three choices; the first example lacks the third
LOG_PROBS = torch.tensor([[-6.0, -7.0, math.nan], [-8.0, -9.0, -9.5]], dtype=torch.double)
TOKENS = torch.tensor([[2, 4, 0], [4, 3, 1]])
BYTES = torch.tensor([[10, 8, 0], [2, 40, 10]])
UNCONDITIONAL = torch.tensor([[-5.0, -9.0, math.nan], [-7.0, -7.0, -9.0]], dtype=torch.double)


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [
        ("accuracy", [0, 0]),
        ("accuracy_per_token", [1, 0]),  # -3 and -1.75; -2, -3, -9.5
        ("accuracy_per_byte", [0, 1]),  # -0.6 and -0.875; -4, -0.225, -0.95
        ("accuracy_pmi", [1, 2]),  # -1 and 2; -1, -2, -0.5
    ],
)
def test_each_normalisation_has_its_best_choice(normalization: in_context.Normalization, expected: list[int]) -> None:
    chosen = in_context.choose(LOG_PROBS, TOKENS, BYTES, UNCONDITIONAL, normalization)
    assert chosen.tolist() == expected


def test_of_choices_that_differ_by_noise_the_first_is_chosen() -> None:
    log_probs = torch.tensor([[-3.0 - 5e-6, -3.0], [-3.1, -3.0]], dtype=torch.double)
    ones = torch.ones(2, 2, dtype=torch.long)
    assert in_context.choose(log_probs, ones, ones, None, "accuracy").tolist() == [0, 1]


def test_pmi_needs_unconditional_log_probabilities() -> None:
    with pytest.raises(ValueError, match="accuracy_pmi"):
        in_context.choose(LOG_PROBS, TOKENS, BYTES, None, "accuracy_pmi")


def test_standard_error_of_independent_examples_is_that_of_a_mean() -> None:
    values = [1.0, 0.0, 1.0, 1.0]
    expected = torch.tensor(values).std(correction=0).item() / math.sqrt(4)
    assert in_context.standard_error(values, [0, 1, 2, 3]) == pytest.approx(expected)


def test_copies_of_examples_in_a_group_add_nothing() -> None:
    values = [1.0, 0.0, 1.0, 1.0]
    once = in_context.standard_error(values, [0, 1, 2, 3])
    assert in_context.standard_error(values * 3, [0, 1, 2, 3] * 3) == pytest.approx(once)
    assert in_context.standard_error(values * 3, list(range(12))) < 0.6 * once


def test_spread_and_perplexity_by_hand() -> None:
    assert in_context.spread([0.5, 0.7]) == pytest.approx(math.sqrt(0.02))
    assert in_context.spread([0.5]) == 0.0
    assert in_context.perplexity([math.log(0.5), math.log(0.125)]) == pytest.approx(4.0)
