"""The spike score of a series, and of a run that stops and goes on."""

import math
import random

import pytest

from protoformer.training.measures.spikes import FEWEST, WINDOW, SpikeScore


def score_of(values: list[float]) -> SpikeScore:
    score = SpikeScore()
    for value in values:
        score.add(value)
    return score


def noise(n: int) -> list[float]:
    draw = random.Random(0)
    return [draw.gauss(3.0, 0.1) for _ in range(n)]


def test_a_spike_is_seven_deviations_from_the_mean_of_what_came_before() -> None:
    values = noise(300)
    values[150], values[200] = 5.0, 3.4  # 20 and 4 deviations
    score = score_of(values)
    assert (score.scored, score.spikes) == (200, 1)
    assert score.percent == 0.5


def test_downwards_counts_and_the_first_values_are_not_scored() -> None:
    assert score_of([*noise(FEWEST), 1.0]).percent == 100
    assert score_of([*noise(FEWEST - 1), 50.0]).percent is None


def test_what_lies_more_than_a_window_back_is_forgotten() -> None:
    values = [1000.0 * value for value in noise(FEWEST)] + noise(WINDOW)
    before = score_of(values).spikes
    assert score_of([*values, 5.0]).spikes == before + 1


def test_numbers_that_are_none_and_a_series_that_stands_still() -> None:
    assert score_of([*noise(FEWEST), math.nan, math.inf]).percent is None
    assert score_of([1.0] * 200 + [1.1]).spikes == 0


@pytest.mark.parametrize("at", [50, 1100])
def test_a_continued_series_is_the_whole_one(at: int) -> None:
    values = noise(2500)
    values[at + 30] = values[2200] = 9.0
    continued = SpikeScore()
    continued.load_state_dict(score_of(values[:at]).state_dict())
    for value in values[at:]:
        continued.add(value)
    assert continued.state_dict() == score_of(values).state_dict()
    assert len(continued.state_dict()["last"]) == WINDOW
