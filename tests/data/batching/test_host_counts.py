"""What the loader knows of a batch on the host is what its tensors say; left padding is not vouched for."""

from typing import Any

import numpy as np
import pytest
import torch

from protoformer.data.batching.host_counts import host_counts, sequence_lengths
from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.samplers import BatchConfig, MicroBatchSampler
from protoformer.models.cost import row_lengths
from protoformer.modules.objective.targets import has_next_token

MASK = torch.arange(5)[None] < torch.tensor([3, 5, 0, 1])[:, None]


def test_counts_of_every_kind_of_batch() -> None:
    counts = host_counts(
        {"padding_mask": MASK, "decoder_mask": MASK[:2], "target_ids": torch.tensor([[4, -1], [0, 9]])}
    )
    assert counts["lengths"].values == [3, 5, 0, 1]
    assert (counts["lengths"].total, counts["lengths"].full, counts["lengths"].longest) == (9, False, 5)
    assert counts["lengths"].next_tokens == int(has_next_token(MASK).sum()) == 6
    assert counts["decoder_lengths"].values == [3, 5]
    assert counts["target_count"] == 3
    assert torch.equal(row_lengths(counts["lengths"], MASK), row_lengths(None, MASK))


def test_sequences_of_an_example_are_counted_row_after_row() -> None:
    lengths = sequence_lengths(MASK.unflatten(0, (2, 2)))
    assert lengths is not None
    assert lengths.values == [3, 5, 0, 1]
    whole = sequence_lengths(torch.ones(2, 3, 4, dtype=torch.bool))
    assert whole is not None
    assert whole.full


@pytest.mark.parametrize("row", [[False, True, True], [True, False, True]])
def test_no_lengths_where_padding_is_not_on_the_right_alone(row: list[bool]) -> None:
    assert sequence_lengths(torch.tensor([[True, True, True], row])) is None


def test_the_loader_adds_counts_and_leaves_foreign_batches_alone() -> None:
    def collate(rows: list[int]) -> dict[str, Any]:
        return {"padding_mask": MASK[rows], "example_ids": torch.tensor(rows)}

    def loader(function: Any) -> BatchLoader:
        return BatchLoader(MicroBatchSampler(np.ones(4, dtype=int), BatchConfig(2), shuffle=False), function)

    assert [batch["lengths"].values for batch in loader(collate)] == [[3, 5], [0, 1]]
    assert list(loader(lambda rows: rows)) == [[0, 1], [2, 3]]
