"""Student's t as scipy has it."""

import pytest
from scipy import stats

from protoformer.significance import student_t


@pytest.mark.parametrize("freedom", [1, 1.5, 2, 3.7, 10, 57, 400, 20_000, 2e6])
def test_tails_and_quantiles_are_those_of_scipy(freedom: float) -> None:
    for t in (0.0, 0.1, 1.0, 2.3, 8.0, 40.0):
        assert student_t.tail(t, freedom) == pytest.approx(stats.t.sf(t, freedom), rel=1e-5, abs=1e-12)
    for probability in (0.6, 0.9, 0.975, 0.995):
        assert student_t.quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-5)


def test_a_tail_of_infinity_is_empty() -> None:
    assert student_t.tail(float("inf"), 3) == 0
