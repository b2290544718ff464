"""A run that goes on with other ranks, micro-batches or workers: the global batches of one process that never stopped."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import pytest
import torch

from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.samplers import BatchConfig, MicroBatchSampler, Phase, PhasedSampler, decode_dummies
from protoformer.data.batching.token_budget import TokenBudgetSampler
from protoformer.data.running_text.datamodule import _ByLength

RANKS = (1, 2, 3, 7, 8, 64, 1024)
LENGTHS = np.random.default_rng(0).integers(2, 40, size=421)


class Stint(NamedTuple):
    """Steps between two launches, and what they run on."""

    ranks: int
    steps: int
    micro_batch: int | None = None
    workers: int = 0


class Kind(NamedTuple):
    """A kind of batching, and the optimizer steps of a whole run."""

    sampler: Callable[[BatchConfig], MicroBatchSampler | PhasedSampler]
    batch_size: int
    steps: int


def shuffled(config: BatchConfig) -> MicroBatchSampler:
    return MicroBatchSampler(LENGTHS, config, shuffle=True)


KINDS = {
    "random": Kind(shuffled, 50, 4 * 9),  # 4 epochs, whose last batch has 21 rows
    "length_grouped": Kind(shuffled, 8, 53),  # an epoch, of two groups; the last batch has 5 rows
    "tokens": Kind(lambda config: TokenBudgetSampler(LENGTHS[:120], LENGTHS[120:240], config), 150, 3 * 23),
    "phases": Kind(lambda config: PhasedSampler([Phase(30, 97), Phase(5, 11), Phase(10, 300)], config), 24, 45),
}


def targets(row: int) -> int:
    """Unevenly spread: none in some rows."""
    return max(0, row * row % 11 - 3)


def collate(rows: list[int]) -> dict[str, object]:
    real = [row for row, is_real in zip(*decode_dummies(rows), strict=True) if is_real]
    return {"rows": rows, "targets": torch.tensor([sum(map(targets, real)), len(real)])}


def launched(name: str, stint: Stint, rank: int) -> BatchLoader:
    kind = KINDS[name]
    order = "random" if name == "phases" else name
    config = BatchConfig(kind.batch_size, stint.micro_batch, rank, stint.ranks, seed=3, order=order)  # type: ignore[arg-type]
    return BatchLoader(kind.sampler(config), collate, stint.workers)


def steps_of(loader: BatchLoader) -> Iterator[list[dict[str, object]]]:
    """Micro-batches of a step, epoch after epoch without end."""
    while True:
        batches = iter(loader)
        while step := list(islice(batches, loader.micro_batches.config.accumulation)):
            yield step


def global_batches(name: str, stints: list[Stint]) -> list[list[int]]:
    """Rows of all ranks in each step, sorted; every stint loads what the first rank saved, as a checkpoint holds it."""
    state: dict[str, int] | None = None
    found: list[list[int]] = []
    for stint in stints:
        loaders = [launched(name, stint, rank) for rank in range(stint.ranks)]
        if state is not None:
            for loader in loaders:
                loader.load_state_dict(state)
        ranks = [steps_of(loader) for loader in loaders]
        for _ in range(stint.steps):
            found.append(joined([next(rank) for rank in ranks], loaders[0].micro_batches.config.accumulation))
        states = [loader.state_dict() for loader in loaders]
        assert all(other == states[0] for other in states)
        state = states[0]
    return found


def joined(ranks: list[list[dict[str, object]]], accumulation: int) -> list[int]:
    """Rows of one global batch without its dummies, after a look at what each rank has of it."""
    assert {len(step) for step in ranks} == {accumulation}  # else some rank waits for another for ever
    rows = [row for step in ranks for batch in step for row in batch["rows"]]  # type: ignore[attr-defined]
    assert all(batch["rows"] for step in ranks for batch in step)
    real = sorted(row for row in rows if row >= 0)
    assert {-1 - row for row in rows if row < 0} <= set(real)
    counted = sum(step[0]["step_targets"] for step in ranks)  # type: ignore[misc]
    assert counted.tolist() == [sum(map(targets, real)), len(real)]
    return real


def drawn_stints(seed: int, steps: int) -> list[Stint]:
    random = np.random.default_rng(seed)
    stints: list[Stint] = []
    while steps:
        ranks = int(random.choice(RANKS))
        length = min(steps, int(random.integers(1, 3 if ranks > 64 else 16)))
        stints.append(Stint(ranks, length, (None, 1, 3, 11)[random.integers(4)]))
        steps -= length
    return stints


@pytest.mark.parametrize("name", KINDS)
def test_changes_of_ranks_and_micro_batches_lose_and_repeat_no_example(name: str) -> None:
    steps = KINDS[name].steps
    expected = global_batches(name, [Stint(1, steps)])
    path = [Stint(1, 5), Stint(1024, 2), Stint(7, 6, 2), Stint(2, 1), Stint(1024, 1, 1), Stint(3, 4), Stint(64, 2)]
    path.append(Stint(2, steps - sum(stint.steps for stint in path)))
    for stints in (path, *(drawn_stints(seed, steps) for seed in range(2))):
        assert global_batches(name, stints) == expected, stints
    epoch = len(launched(name, Stint(1, 0), 0))
    sizes = {len({row for batch in expected[at : at + epoch] for row in batch}) for at in range(0, steps, epoch)}
    total = {sum(map(len, expected[at : at + epoch])) for at in range(0, steps, epoch)}
    assert steps % epoch == 0
    assert sizes == total == {45 * 24 if name == "phases" else 120 if name == "tokens" else len(LENGTHS)}


def test_every_end_of_an_epoch_and_every_step_of_one_can_be_the_change() -> None:
    expected = global_batches("random", [Stint(1, 18)])
    for steps in range(1, 18):
        for first, second in ((1, 3), (3, 8), (8, 1)):
            assert global_batches("random", [Stint(first, steps, 4), Stint(second, 18 - steps)]) == expected, steps


@pytest.mark.slow
@pytest.mark.parametrize("name", ["random", "tokens"])
def test_other_numbers_of_workers_lose_and_repeat_no_example(name: str) -> None:
    expected = global_batches(name, [Stint(1, 30)])
    stints = [Stint(1, 4, 11, 2), Stint(2, 9, None, 1), Stint(1, 1, None, 1), Stint(2, 5), Stint(1, 11, 7, 2)]
    assert global_batches(name, stints) == expected


@pytest.mark.parametrize("rows", [1, 5, 64, 65, 421])
@pytest.mark.parametrize("limited", [False, True], ids=["whole", "limited"])
def test_evaluation_has_every_row_once_on_more_ranks_than_rows(rows: int, limited: bool) -> None:
    def evaluated(sampler: type[MicroBatchSampler], ranks: int) -> list[list[int]]:
        """Rows of each batch of all ranks."""
        config = BatchConfig(8, 2, ranks=ranks, eval_rows=64 if limited else 64 * ranks)
        of_ranks = []
        for rank in range(ranks):
            evaluation = BatchConfig(**{**vars(config), "rank": rank}).for_evaluation()
            of_ranks.append(list(sampler(LENGTHS[:rows], evaluation, shuffle=False)))
        assert all(max(map(len, batches)) <= 64 for batches in of_ranks)
        assert all(all(batches) for batches in of_ranks)
        together = zip(*of_ranks, strict=True)  # as many batches on each rank
        return [sorted(row for batch in batches for row in batch if row >= 0) for batches in together]

    for sampler in (MicroBatchSampler, _ByLength):
        alone = evaluated(sampler, 1)
        for ranks in RANKS:
            batches = evaluated(sampler, ranks)
            assert sorted(row for batch in batches for row in batch) == list(range(rows))
            assert not limited or batches == alone  # a limit of batches has the same rows
