"""Intervals of means: the formulas of the books, and their coverage."""

import numpy as np
import pytest

from protoformer.significance.means import difference_from_rest, mean_interval, wilson


def test_a_share_has_wilsons_interval() -> None:
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)  # Newcombe 1998, method 3
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert mean_interval(np.array([1.0, 0.0] * 5)).interval == wilson(0.5, 10)


def test_other_scores_have_students() -> None:
    scores = np.array([2.0, 4.0, 9.0])
    mean, interval = mean_interval(scores)
    half = 4.302653 * scores.std(ddof=1) / 3**0.5  # the 97.5th percentile with 2 degrees of freedom
    assert interval == pytest.approx((mean - half, mean + half))


def test_copies_of_examples_add_nothing_where_they_are_one_cluster() -> None:
    scores = np.random.default_rng(0).random(50)
    copied, clusters = np.repeat(scores, 4), np.repeat(np.arange(50), 4)
    assert mean_interval(copied, clusters).interval == pytest.approx(mean_interval(scores).interval)
    members = np.arange(50) < 20
    once = difference_from_rest(scores, members)
    fourfold = difference_from_rest(copied, np.repeat(members, 4), clusters)
    assert once is not None
    assert fourfold == pytest.approx(once)


def test_a_group_is_compared_with_the_others() -> None:
    scores = np.array([1.0] * 9 + [0.0] + [0.0] * 9 + [1.0])
    found = difference_from_rest(scores, np.arange(20) < 10)
    assert found is not None
    assert found.difference == pytest.approx(0.8)
    assert found.p < 0.001
    assert difference_from_rest(scores, np.ones(20, dtype=bool)) is None
    assert difference_from_rest(np.ones(20), np.arange(20) < 10) is None


@pytest.mark.parametrize("clusters", [None, np.repeat(np.arange(60), 3)])
def test_intervals_hold_the_truth_as_often_as_they_say(clusters: np.ndarray | None) -> None:
    generator = np.random.default_rng(1)
    held = wrong = 0
    members = np.arange(180) < 60
    for _ in range(1000):
        passages = np.repeat(generator.normal(size=60), 3) if clusters is not None else 0.0
        scores = passages + generator.normal(size=180)
        _, interval = mean_interval(scores, clusters)
        assert interval is not None
        held += interval[0] < 0 < interval[1]
        found = difference_from_rest(scores, members, clusters)
        wrong += found is not None and found.p < 0.05
    assert 930 < held < 970
    assert 30 < wrong < 70
