"""Writing the target of a source (arXiv 1706.03762, section 6.1): beam search over an encoder-decoder.

Sources are encoded once, of like length together. A target begins with a token of its own and ends with another; it has at
most `extra` tokens more than its source, and no more than the model has positions.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protoformer.blocks.kernels.packing import HiddenStates
from protoformer.decoding.beam import Beam, Ended, search
from protoformer.errors import ConfigurationError
from protoformer.models.encoder_decoder import EncoderDecoder


@dataclass(frozen=True)
class Writing:
    """How targets are written: the tokens that begin and end them, those that never stand in one, and the search."""

    start: int
    end: int
    never: Collection[int] = ()
    beam: Beam = field(default_factory=lambda: Beam(beams=4, length_penalty="gnmt", alpha=0.6))
    extra: int = 50

    def __post_init__(self) -> None:
        if self.extra < 1:
            raise ConfigurationError(f"extra={self.extra}: at least one token more than the source has")


class EncoderDecoderReader:
    """The decoder over a memory, a target for each of its rows, with room for `max_len` tokens each."""

    def __init__(self, model: EncoderDecoder, memory: HiddenStates, max_len: int, never: Collection[int] = ()) -> None:
        self.model = model
        self.so_far = model.begin(memory, max_len)
        self.never = torch.tensor(sorted(never), dtype=torch.long, device=memory.tokens.device)

    def read(
        self, ids: Int[Tensor, "rows new"], padding_mask: Bool[Tensor, "rows new"] | None = None
    ) -> Float[Tensor, "rows vocab"]:
        """All rows of a target have as many tokens: a padding mask is a ValueError."""
        if padding_mask is not None:
            raise ValueError("targets that are written side by side have no padding")
        logits = self.model.logits(self.model.read(ids, self.so_far)[:, -1])
        return logits if not len(self.never) else logits.index_fill(-1, self.never, -torch.inf)

    def select(self, rows: Int[Tensor, "chosen"]) -> None:
        self.so_far.select(rows)


@torch.no_grad()
def write(
    model: EncoderDecoder,
    ids: Int[Tensor, "batch sources"],
    padding_mask: Bool[Tensor, "batch sources"],
    writing: Writing,
) -> list[list[Ended]]:
    """The best targets of each source, up to `beams`, the best first; in the model's own precision, autocast or not."""
    training = model.training
    model.eval()
    try:
        with torch.autocast(ids.device.type, enabled=False):
            memory = model.encode(ids, padding_mask)
            limits = [min(length + writing.extra, model.max_seq_len) for length in padding_mask.sum(1).tolist()]
            reader = EncoderDecoderReader(model, memory, max(limits), writing.never)
            logits = reader.read(ids.new_full((len(ids), 1), writing.start))
            return search(reader, logits, max_new=limits, end=[writing.end], beam=writing.beam)
    finally:
        model.train(training)


def best(ways: Sequence[Ended], end: int) -> list[int]:
    """The tokens of the best target, without the one that ends it; nothing where no way was found."""
    return [token for token in ways[0].tokens if token != end] if ways else []


def batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Numbers of sources of like length together, at most `tokens` with their padding; the longest ones first, so that what
    does not fit into memory is told at once."""
    found: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if found and lengths[found[-1][0]] * (len(found[-1]) + 1) <= tokens:
            found[-1].append(number)
        else:
            found.append([number])
    return found
