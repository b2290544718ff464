"""A run in phases: every row once a pass, each draw once, the same on any number of ranks, from any position."""

import numpy as np
import pytest

from protoformer.data.batching.samplers import BatchConfig, Phase, PhasedSampler

PHASES = [Phase(7, 25), Phase(3, 8), Phase(0, 5), Phase(2, 100)]
TOTAL, FIRST = 138, [0, 25, 33, 38]


def sampler(rank: int = 0, ranks: int = 1, micro: int | None = None, size: int = 10, seed: int = 3) -> PhasedSampler:
    return PhasedSampler(PHASES, BatchConfig(size, micro, rank, ranks, seed))


def test_a_phase_goes_through_its_rows_pass_after_pass() -> None:
    batches = list(sampler())
    assert len(batches) == len(sampler()) == 12
    assert [len(batch) for batch in batches] == [10] * 12
    draws = np.concatenate(batches)
    assert len(set(draws.tolist())) == 120
    for phase, (begin, end) in {0: (0, 70), 1: (70, 100), 3: (100, 120)}.items():
        rows, passes = draws[begin:end] % TOTAL - FIRST[phase], draws[begin:end] // TOTAL
        for number in range(passes.max() + 1):
            held = rows[passes == number]
            size = PHASES[phase].rows
            if number < (end - begin) // size:
                assert sorted(held.tolist()) == list(range(size))
            assert held.min() >= 0
            assert held.max() < size
        assert (np.diff(passes) >= 0).all()
    first, second = draws[:25], draws[25:50]
    assert (first != second - TOTAL).any()  # another order
    assert list(sampler(seed=4)) != batches


@pytest.mark.parametrize(("ranks", "micro"), [(2, None), (2, 3), (3, 4), (4, 1), (16, None)])
def test_global_batches_are_the_same_on_any_number_of_ranks(ranks: int, micro: int | None) -> None:
    alone = list(sampler())
    every = [list(sampler(rank, ranks, micro)) for rank in range(ranks)]
    accumulation = BatchConfig(10, micro, 0, ranks).accumulation
    assert {len(batches) for batches in every} == {12 * accumulation}
    for number, batch in enumerate(alone):
        parts = [part for rank in every for part in rank[number * accumulation : (number + 1) * accumulation]]
        assert sorted(draw for part in parts for draw in part if draw >= 0) == sorted(batch)
        assert all(part and len(part) <= (micro or 10) for part in parts)
        assert all(-1 - draw in batch for part in parts for draw in part if draw < 0)


@pytest.mark.parametrize("micro", [None, 3])
def test_it_goes_on_from_any_position(micro: int | None) -> None:
    whole = list(sampler(1, 2, micro))
    for position in range(len(whole) + 1):
        again = sampler(1, 2, micro)
        again.position = position
        assert list(again) == whole[position:]


def test_a_further_epoch_draws_anew() -> None:
    one = sampler()
    first = {draw for batch in one for draw in batch}
    one.epoch = 1
    second = {draw for batch in one for draw in batch}
    assert len(second) == 120
    assert not first & second


def test_a_table_smaller_than_a_batch() -> None:
    batches = list(PhasedSampler([(2, 1), (1, 3)], BatchConfig(8)))
    assert [sorted(draw % 4 for draw in batch) for batch in batches[:2]] == [[0] * 8] * 2
    assert batches[0] + batches[1] == [4 * number for number in range(16)]
    assert np.bincount(np.asarray(batches[2]) % 4, minlength=4).max() == 3


def test_passes_over_the_rows_are_summed_over_phases() -> None:
    assert sampler().passes(7) == pytest.approx(70 / 25)
    assert sampler().passes(9) == pytest.approx(70 / 25 + 20 / 8)
    assert sampler().passes(99) == pytest.approx(70 / 25 + 30 / 8 + 20 / 100)
