"""Rows for pretraining that are drawn by their numbers, and a small model."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from protoformer.batches import PretrainingBatch
from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.samplers import BatchConfig, Phase, PhasedSampler, decode_dummies
from protoformer.models.bert import bert
from protoformer.modules.kinds.pretraining import PretrainingModule

SIZES = {"vocab_size": 50, "d_model": 24, "n_layers": 2, "n_heads": 4, "d_ff": 48, "max_seq_len": 24}


VAL = {"val": [""], "test": []}


class Rows:
    """Rows drawn by their numbers: of unequal length, with unequally many targets, some without a pair."""

    def __call__(self, indices: list[int]) -> PretrainingBatch:
        numbers, real = decode_dummies(indices)
        rows = len(numbers)
        ids, segments, target = (torch.zeros(rows, 16, dtype=torch.long) for _ in range(3))
        mask = torch.zeros(rows, 16, dtype=torch.bool)
        position, following = torch.zeros(rows, 9, dtype=torch.long), torch.full((rows,), -1)
        target = torch.full((rows, 9), -1)
        for row, number in enumerate(numbers):
            draw = np.random.default_rng(number)
            length, n_targets = int(draw.integers(11, 17)), 1 + (5 * number) % 9
            mask[row, :length] = True
            ids[row, :length] = torch.from_numpy(draw.integers(1, 50, size=length))
            segments[row, length // 2 : length] = 1
            target_positions = np.sort(draw.permutation(length)[:n_targets])
            if real[row]:
                position[row, :n_targets] = torch.from_numpy(target_positions)
                target[row, :n_targets] = torch.from_numpy(draw.integers(0, 50, size=n_targets))
                following[row] = number % 3 - 1
        return PretrainingBatch(
            ids=ids,
            padding_mask=mask,
            segment_ids=segments,
            pooler_position=torch.zeros(rows, dtype=torch.long),
            example_ids=torch.tensor([n if is_real else -1 for n, is_real in zip(numbers, real, strict=True)]),
            target_position=position,
            target_ids=target,
            next_sentence=following,
            targets=torch.stack([(target >= 0).sum(), (following >= 0).sum()]),
        )


def labels(batch: PretrainingBatch, ignored: int = -100) -> Tensor:
    """Targets as a rectangle, as a full softmax takes them."""
    token_labels = torch.full_like(batch["ids"], ignored)
    row, number = (batch["target_ids"] >= 0).nonzero(as_tuple=True)
    token_labels[row, batch["target_position"][row, number]] = batch["target_ids"][row, number]
    return token_labels


def module(nsp: bool = True, **settings: Any) -> PretrainingModule:
    torch.manual_seed(0)
    optimization = settings.pop("optimization", None)
    task_module = PretrainingModule(
        backbone=bert(**SIZES, dropout=0.0, **settings), splits=VAL, nsp=nsp, optimization=optimization
    )
    for parameter in task_module.parameters():  # larger than BERT's own, so that a wrong gradient shows
        nn.init.normal_(parameter, std=0.2)
    task_module.connect(total_steps=4)
    return task_module


def full_loss(ours: PretrainingModule, batch: PretrainingBatch) -> Tensor:
    """The formula itself: a softmax at every place, of which the unwanted are ignored, and one for every pair."""
    hidden = ours.backbone(batch["ids"], batch["padding_mask"], batch["segment_ids"])
    logits = ours.head.masked(hidden.to_padded(), ours.backbone.embeddings.token.weight)
    loss = functional.cross_entropy(logits.flatten(0, 1), labels(batch).flatten())
    if ours.head.next is not None and (batch["next_sentence"] >= 0).any():
        pairs = ours.head.next(ours.backbone.pooler(hidden, batch["pooler_position"]))
        loss = loss + functional.cross_entropy(pairs, batch["next_sentence"], ignore_index=-1)
    return loss


def gradients(ours: PretrainingModule) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in ours.named_parameters() if p.grad is not None}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 1e-4) -> None:
    assert actual.keys() == expected.keys()
    for name, gradient in actual.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=rtol, msg=name)


def loader(micro: int | None = None, steps: int = 4, size: int = 8) -> BatchLoader:
    return BatchLoader(PhasedSampler([Phase(steps, 21)], BatchConfig(size, micro, seed=1)), Rows())
