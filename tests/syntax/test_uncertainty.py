"""Intervals of shares and the permutation test: right as often as they say."""

import itertools

import numpy as np
import pytest

from protoformer.syntax.uncertainty import fractions, permutation_p


def test_shares_and_their_intervals() -> None:
    generator = np.random.default_rng(0)
    arcs = generator.integers(1, 10, size=(400, 1))
    correct = generator.binomial(arcs, 0.3)
    result = fractions(np.hstack([correct, arcs]), np.hstack([arcs, arcs]))
    assert result.fraction == pytest.approx([correct.sum() / arcs.sum(), 1.0])
    error = np.sqrt(0.3 * 0.7 / arcs.sum())
    assert result.high[0] - result.low[0] == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert (result.low[1], result.high[1]) == (1, 1)


def test_a_column_without_arcs_has_no_share() -> None:
    nothing = np.zeros((3, 1), dtype=int)
    assert np.isnan(fractions(nothing, nothing).fraction).all()


def test_the_permutation_test_is_that_of_all_signs() -> None:
    generator = np.random.default_rng(2)
    ours, theirs = generator.integers(0, 4, size=(2, 8, 5))
    differences = ours - theirs
    signs = np.array(list(itertools.product((-1, 1), repeat=8)))
    exact = (np.abs(signs @ differences) >= np.abs(differences.sum(axis=0))).mean(axis=0)
    assert permutation_p(ours, theirs, resamples=20_000) == pytest.approx(exact, abs=0.015)
    assert permutation_p(np.ones((20, 1), dtype=int), np.zeros((20, 1), dtype=int), resamples=99) == 1 / 100


def test_the_permutation_test_is_wrong_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    arcs = generator.integers(1, 6, size=(120, 1000))
    ours, theirs = (generator.binomial(arcs, 0.4) for _ in range(2))
    p_values = permutation_p(ours, theirs, resamples=999)
    assert (p_values < 0.05).mean() == pytest.approx(0.05, abs=0.02)
    assert permutation_p(generator.binomial(arcs, 0.6), theirs, resamples=999).max() < 0.05
    assert permutation_p(ours, ours, resamples=99).min() == 1
