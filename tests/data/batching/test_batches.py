"""Samplers, loaders and caches: every row once, the same on any number of ranks, and a position that can be saved."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.samplers import BatchConfig, MicroBatchSampler, decode_dummies
from protoformer.data.cache import TokenTable, cached
from protoformer.data.datamodules.classification import ClassificationCollate

LENGTHS = np.random.default_rng(0).integers(3, 40, size=97)


def table(examples: int = 5) -> TokenTable:
    lengths = np.arange(2, 2 + examples)
    return TokenTable(
        ids=np.arange(lengths.sum(), dtype=np.int32) + 10,
        segment_ids=np.ones(lengths.sum(), dtype=np.uint8),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        pooler_position=np.zeros(examples, dtype=np.int32),
        labels=np.arange(examples),
        row=np.arange(examples) + 100,
        stats={"truncated": 0},
    )


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("ranks", "micro"), [(1, None), (2, None), (2, 3), (3, 4), (4, 1)])
def test_each_rank_has_as_many_batches_and_every_row_comes_once(shuffle: bool, ranks: int, micro: int | None) -> None:
    samplers = [
        MicroBatchSampler(LENGTHS, BatchConfig(10, micro, rank, ranks, seed=3), shuffle=shuffle)
        for rank in range(ranks)
    ]
    batches = [list(sampler) for sampler in samplers]
    assert {len(b) for b in batches} == {len(samplers[0])}
    rows = [row for rank in batches for batch in rank for row in batch if row >= 0]
    assert sorted(rows) == list(range(97))
    assert all(len(batch) <= (micro or 10) for rank in batches for batch in rank)


@pytest.mark.parametrize("micro", [None, 2])
def test_global_batches_are_the_same_on_any_number_of_ranks(micro: int | None) -> None:
    def batches(ranks: int) -> list[set[int]]:
        every = [
            list(MicroBatchSampler(LENGTHS, BatchConfig(10, micro, r, ranks, seed=3), shuffle=True))
            for r in range(ranks)
        ]
        steps = BatchConfig(10, micro, 0, ranks).accumulation
        return [
            {row for rank in every for part in rank[at : at + steps] for row in part if row >= 0}
            for at in range(0, len(every[0]), steps)
        ]

    assert batches(1) == batches(2) == batches(3)
    assert [len(batch) for batch in batches(1)] == [10] * 9 + [7]


def test_epochs_differ_and_repeat() -> None:
    sampler = MicroBatchSampler(LENGTHS, BatchConfig(10, seed=3), shuffle=True)
    first = list(sampler)
    sampler.epoch = 1
    second = list(sampler)
    assert first != second
    sampler.epoch = 0
    assert list(sampler) == first
    assert list(MicroBatchSampler(LENGTHS, BatchConfig(10, seed=4), shuffle=True)) != first


def test_length_grouping_pads_less_and_still_gives_every_row() -> None:
    lengths = np.random.default_rng(1).integers(3, 120, size=1003)

    def padded(order: str) -> tuple[int, list[int]]:
        batches = list(MicroBatchSampler(lengths, BatchConfig(10, seed=3, order=order), shuffle=True))  # type: ignore[arg-type]
        return sum(len(b) * lengths[b].max() for b in batches), [row for b in batches for row in b]

    grouped, rows = padded("length_grouped")
    assert grouped < 0.65 * padded("random")[0]
    assert sorted(rows) == list(range(1003))
    assert rows != sorted(rows, key=lambda row: lengths[row])


def loader(workers: int = 0) -> BatchLoader:
    big = table(23)
    sampler = MicroBatchSampler(big.lengths, BatchConfig(4, seed=5), shuffle=True)
    return BatchLoader(sampler, ClassificationCollate(big, 0), workers)


def test_a_loader_continues_with_the_very_next_batch() -> None:
    whole = loader()
    epochs = [[batch["example_ids"].tolist() for batch in whole] for _ in range(2)]
    for stop in (0, 2, 6):
        first = loader()
        list(first)  # epoch 0
        assert len(list(itertools.islice(first, stop))) == stop
        again = loader()
        again.load_state_dict(first.state_dict())
        assert [batch["example_ids"].tolist() for batch in again] == epochs[1][stop:]
        assert again.state_dict() == {"epoch": 1, "position": 6}


def test_an_epoch_that_was_left_early_is_over() -> None:
    epochs = loader()
    expected = [[batch["example_ids"].tolist() for batch in epochs] for _ in range(2)]
    left = loader()
    next(iter(left))
    assert [batch["example_ids"].tolist() for batch in left] == expected[1]


@pytest.mark.slow
def test_workers_change_nothing_and_what_they_fetch_ahead_does_not_count() -> None:
    one = loader(workers=2)
    whole = [batch["example_ids"].tolist() for batch in loader()]
    taken = list(itertools.islice(one, 3))
    assert [batch["example_ids"].tolist() for batch in taken] == whole[:3]
    again = loader()
    again.load_state_dict(one.state_dict())
    assert [batch["example_ids"].tolist() for batch in again] == whole[3:]
    states = []
    for workers in (0, 2):  # nor do they draw other random numbers, which dropout would see
        torch.manual_seed(1)
        loaded = loader(workers)
        for _ in range(3):
            list(loaded)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_collate_pads_and_marks_dummies() -> None:
    batch = ClassificationCollate(table(), pad_id=7)([2, 0, -1 - 1])
    assert batch["ids"].tolist() == [[[15, 16, 17, 18]], [[10, 11, 7, 7]], [[12, 13, 14, 7]]]
    assert batch["padding_mask"].sum(-1).tolist() == [[4], [2], [3]]
    assert batch["segment_ids"].tolist() == [[[1, 1, 1, 1]], [[1, 1, 0, 0]], [[1, 1, 1, 0]]]
    assert batch["example_ids"].tolist() == [102, 100, -1]
    assert batch["labels"].tolist() == [2, 0, 1]
    assert decode_dummies([3, -1]) == ([3, 0], [True, False])


def test_cache_is_written_once_and_keyed_by_settings(tmp_path: Path) -> None:
    calls = []

    def write() -> TokenTable:
        calls.append(1)
        return table()

    one = cached(tmp_path, {"data": "x"}, write, TokenTable)
    two = cached(tmp_path, {"data": "x"}, write, TokenTable)
    assert len(calls) == 1
    assert isinstance(two.ids, np.memmap)
    for name in TokenTable.array_names():
        np.testing.assert_array_equal(getattr(one, name), getattr(table(), name))
    cached(tmp_path, {"data": "y"}, write, TokenTable)
    assert len(calls) == 2


def test_a_half_written_cache_is_not_taken_for_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = np.save

    def breaks(file: Path, *rest: object, **more: object) -> None:
        if "labels" in str(file):
            raise OSError("disk full")
        saved(file, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(np, "save", breaks)
    with pytest.raises(OSError, match="disk full"):
        cached(tmp_path, {"data": "x"}, table, TokenTable)
    monkeypatch.setattr(np, "save", saved)
    assert len(cached(tmp_path, {"data": "x"}, table, TokenTable)) == 5


def test_padded_batch_equals_single_examples() -> None:
    from protoformer.models.bert import bert

    model = bert(vocab_size=60, d_model=16, n_layers=2, n_heads=2, d_ff=32).eval()
    collate = ClassificationCollate(table(), 0)
    names = ("ids", "padding_mask", "segment_ids")

    def pooled(rows: list[int]) -> torch.Tensor:
        batch = collate(rows)
        inputs = (batch[name].flatten(0, 1) for name in names)
        return model.pooler(model(*inputs), batch["pooler_position"].flatten())  # type: ignore[literal-required]

    torch.testing.assert_close(pooled([0, 3, 4]), torch.cat([pooled([i]) for i in (0, 3, 4)]), atol=1e-6, rtol=1e-5)
