"""Sequence-to-sequence decoding: beam search over an encoder-decoder (arXiv 1706.03762, section 6.1).

Sources are encoded once. A target has at most `max_extra_tokens` tokens more than its source (the paper's 50), and no more
than the model has positions.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protoformer.blocks.kernels.packing import HiddenStates
from protoformer.decoding.beam import BeamParams, Hypothesis, beam_search
from protoformer.decoding.session import Suppression
from protoformer.distributed.backends import disable_cudnn_attention
from protoformer.errors import ConfigurationError
from protoformer.models.encoder_decoder import EncoderDecoder


@dataclass(frozen=True)
class Seq2SeqParams:
    """Options of `generate_targets`: the tokens that start and end a target, those that never occur in one, and the search."""

    start_id: int
    end_id: int
    suppressed_ids: Collection[int] = ()
    beam: BeamParams = field(default_factory=lambda: BeamParams(num_beams=4, length_penalty="gnmt", alpha=0.6))
    max_extra_tokens: int = 50

    def __post_init__(self) -> None:
        if self.max_extra_tokens < 1:
            raise ConfigurationError(
                f"max_extra_tokens={self.max_extra_tokens}: at least one token more than the source has"
            )


class EncoderDecoderSession:
    """A decoder with caches for one target of up to `max_len` tokens for each row of an encoder's output."""

    def __init__(
        self, model: EncoderDecoder, memory: HiddenStates, max_len: int, suppressed_ids: Collection[int] = ()
    ) -> None:
        self.model = model
        self.state = model.init_state(memory, max_len)
        self.suppress = Suppression(suppressed_ids, memory.tokens.device)

    def step(
        self, ids: Int[Tensor, "rows new"], padding_mask: Bool[Tensor, "rows new"] | None = None
    ) -> Float[Tensor, "rows vocab"]:
        """All targets have the same length: a padding mask is a ValueError."""
        if padding_mask is not None:
            raise ValueError("targets of a batch grow by the same number of tokens, without padding")
        return self.suppress(self.model.logits(self.model.decode_step(ids, self.state)[:, -1]))

    def select(self, rows: Int[Tensor, "selected"]) -> None:
        self.state.select(rows)


@torch.no_grad()
def generate_targets(
    model: EncoderDecoder,
    source_ids: Int[Tensor, "batch sources"],
    source_mask: Bool[Tensor, "batch sources"],
    params: Seq2SeqParams,
) -> list[list[Hypothesis]]:
    """Up to `num_beams` hypotheses of each source's target, the best first. Runs in the model's precision, without autocast."""
    disable_cudnn_attention()
    training = model.training
    model.eval()
    try:
        with torch.autocast(source_ids.device.type, enabled=False):
            memory = model.encode(source_ids, source_mask)
            limits = [
                min(length + params.max_extra_tokens, model.max_seq_len) for length in source_mask.sum(1).tolist()
            ]
            session = EncoderDecoderSession(model, memory, max(limits), params.suppressed_ids)
            logits = session.step(source_ids.new_full((len(source_ids), 1), params.start_id))  # (batch, vocab)
            return beam_search(session, logits, max_new_tokens=limits, eos_ids=[params.end_id], params=params.beam)
    finally:
        model.train(training)


def best_tokens(hypotheses: Sequence[Hypothesis], end_id: int) -> list[int]:
    """The tokens of the best hypothesis, without the end token; empty where there is no hypothesis."""
    return [token for token in hypotheses[0].tokens if token != end_id] if hypotheses else []


def batches_by_length(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices of sources in batches of similar length, each of at most `max_tokens` tokens with its padding.

    The longest come first, so that a batch that does not fit into memory fails at once.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
