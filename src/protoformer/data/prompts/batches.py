"""Batches of prompts: their order, and what a batch holds."""

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray

from protoformer.batches import PromptBatch
from protoformer.data.batching.samplers import BatchConfig, MicroBatchSampler, decode_dummies
from protoformer.data.prompts.table import PromptTable


class TreeOrder(MicroBatchSampler):
    """Examples whose prompts begin alike one after another, so that what they share is run once."""

    def __init__(self, table: PromptTable, config: BatchConfig) -> None:
        super().__init__(table.lengths, config, shuffle=False)
        self._order = np.asarray(sorted(range(len(table)), key=lambda example: table.sequences(example)[0].ids))

    def order(self) -> Int[ndarray, "examples"]:
        return self._order


class PromptCollate:
    """Example indices -> their sequences; a dummy has none."""

    def __init__(self, table: PromptTable) -> None:
        self.table = table

    def __call__(self, indices: list[int]) -> PromptBatch:
        examples, is_real = decode_dummies(indices)
        sequences = [
            self.table.sequences(int(example)) if real else [] for example, real in zip(examples, is_real, strict=True)
        ]
        first = torch.tensor([[each[0].ids[0] if each else 0] for each in sequences])
        return PromptBatch(
            ids=first,
            padding_mask=torch.ones_like(first, dtype=torch.bool),
            example_ids=torch.where(torch.as_tensor(np.asarray(is_real)), torch.as_tensor(np.asarray(examples)), -1),
            sequences=sequences,
        )
