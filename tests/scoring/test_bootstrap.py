"""The paired bootstrap, held against scipy's and against cases whose answer is known."""

import numpy as np
import pytest
from scipy import stats

from protoformer.scoring.bootstrap import paired_bootstrap


def test_equals_scipys_percentile_interval() -> None:
    generator = np.random.default_rng(1)
    ours, theirs = (generator.random((3, 400)) < share for share in (0.8, 0.74))
    actual = paired_bootstrap(ours.astype(float), theirs.astype(float), resamples=20_000)
    expected = stats.bootstrap(
        (ours.mean(0), theirs.mean(0)),
        lambda a, b, axis=-1: a.mean(axis) - b.mean(axis),
        paired=True,
        method="percentile",
        n_resamples=20_000,
        rng=2,
    ).confidence_interval
    assert actual.mean == pytest.approx(ours.mean() - theirs.mean())
    assert (actual.low, actual.high) == pytest.approx((expected.low, expected.high), abs=2e-3)


def test_pairing_counts() -> None:
    """The same examples are hard for both: a small gain on every tenth is sure, though each score alone wavers."""
    hard = (np.arange(1000) % 2).astype(float)
    better = np.maximum(hard, (np.arange(1000) % 20 == 0).astype(float))
    gain = paired_bootstrap(better[None], hard[None])
    assert gain.mean == pytest.approx(0.05)
    assert 0.035 < gain.low < gain.high < 0.066
    assert gain.is_sure


def test_the_same_systems_differ_in_nothing_and_the_same_seed_draws_the_same() -> None:
    right = (np.random.default_rng(0).random((2, 300)) < 0.6).astype(float)
    same = paired_bootstrap(right, right[::-1])
    assert same == (0.0, 0.0, 0.0)
    assert not same.is_sure
    other = 1.0 - right[:1]
    assert paired_bootstrap(right, other, resamples=50) == paired_bootstrap(right, other, resamples=50)
    assert paired_bootstrap(right, other, resamples=50) != paired_bootstrap(right, other, resamples=50, seed=1)


def test_a_large_set_is_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    right = (np.random.default_rng(0).random((2, 300)) < 0.6).astype(float)
    whole = paired_bootstrap(right, right[:1], resamples=101)
    monkeypatch.setattr("protoformer.scoring.bootstrap.CHUNK", 700)
    assert paired_bootstrap(right, right[:1], resamples=101) == pytest.approx(whole)


@pytest.mark.parametrize(
    ("shape", "options"), [((0, 5), {}), ((2, 0), {}), ((1, 5), {"level": 1.0}), ((1, 5), {"resamples": 0})]
)
def test_what_cannot_be_compared(shape: tuple[int, int], options: dict) -> None:
    with pytest.raises(ValueError, match=r"no examples|level must be between"):
        paired_bootstrap(np.ones(shape), np.ones(shape), **options)
