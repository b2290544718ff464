"""Counts of a batch that stay on the host (`batches.HostCounts`), taken where the batch is made."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from protoformer.blocks.kernels.packing import SequenceLengths


class WithHostCounts:
    """A collate function whose batches come with their host counts."""

    def __init__(self, collate: Callable[[list[int]], Any]) -> None:
        self.collate = collate

    def __call__(self, indices: list[int]) -> Any:
        batch = self.collate(indices)
        return batch | host_counts(batch) if isinstance(batch, dict) else batch


def host_counts(batch: dict[str, Any]) -> dict[str, Any]:
    """The counts of a batch on the CPU, of a kind known or unknown; none of what it does not hold."""
    counts: dict[str, Any] = {}
    for name, mask in (("lengths", "padding_mask"), ("decoder_lengths", "decoder_mask")):
        lengths = sequence_lengths(batch[mask]) if isinstance(batch.get(mask), Tensor) else None
        if lengths is not None:
            counts[name] = lengths
    if isinstance(targets := batch.get("target_ids"), Tensor):
        counts["target_count"] = int((targets >= 0).sum())
    return counts


def sequence_lengths(padding_mask: Tensor) -> SequenceLengths | None:
    """Lengths of all sequences of a padded batch; None where padding is not on the right alone."""
    rows = padding_mask.flatten(0, -2)  # (sequences, seq)
    if bool((rows[:, 1:] & ~rows[:, :-1]).any()):
        return None
    return SequenceLengths(rows.sum(1).tolist(), rows.shape[1])
