"""Generation with a decoder: prompts are continued token by token, by sampling.

The prompts of a batch are read in one pass, then each step reads one token a row. A sequence that has filled the model's
positions *slides*: its last half is read again from position 0, and generation goes on (learned positions belong to the
cached keys and values, so these cannot be reused). A prompt that leaves too few positions loses its beginning in the same way.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from protoformer.decoding.sampling import SamplingParams, sample
from protoformer.decoding.session import DecoderSession, left_pad
from protoformer.errors import ConfigurationError
from protoformer.models.decoder import Decoder


@dataclass
class GeneratedSequence:
    """A prompt with the tokens generated so far. The model sees the tokens from `window_start` on."""

    prompt: list[int]
    max_new_tokens: int
    generator: torch.Generator
    new_tokens: list[int] = field(default_factory=list)
    window_start: int = 0

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.new_tokens

    @property
    def window(self) -> list[int]:
        return self.tokens[self.window_start :]


@torch.inference_mode()
def generate(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampling: SamplingParams | None = None,
    eos_ids: Collection[int] = (),
    suppressed_ids: Collection[int] = (),
    seed: int = 0,
    stopped: Collection[int] = (),
) -> Iterator[list[tuple[int, int]]]:
    """Each step yields (index of the prompt, its next token) for all prompts that are not finished.

    A prompt is finished after `max_new_tokens` tokens, after a token of `eos_ids`, which is yielded too, or when the caller has
    put its index into `stopped`. Tokens of `suppressed_ids` are never chosen. The result of a prompt does not depend on the
    others: each has its own generator, all of the same `seed`. Raises ConfigurationError for an empty prompt.
    """
    if max_new_tokens < 1:
        raise ConfigurationError(f"max_new_tokens={max_new_tokens}: at least one token")
    if empty := [index for index, prompt in enumerate(prompts) if not prompt]:
        raise ConfigurationError(f"prompt {empty[0] + 1} is empty: there is nothing to continue")
    sampling = sampling or SamplingParams()
    sequences = [GeneratedSequence(list(p), max_new_tokens, torch.Generator().manual_seed(seed)) for p in prompts]
    reserved = min(max_new_tokens, model.max_seq_len // 2)  # positions for new tokens
    for sequence in sequences:
        sequence.window_start = max(0, len(sequence.prompt) - (model.max_seq_len - reserved))
    active = list(range(len(sequences)))
    training = model.training
    model.eval()
    try:
        while active:
            yield from _until_full(model, sequences, active, sampling, frozenset(eos_ids), suppressed_ids, stopped)
            for index in active:
                sequence = sequences[index]
                if len(sequence.window) > model.max_seq_len:
                    sequence.window_start = len(sequence.tokens) - model.max_seq_len // 2
    finally:
        model.train(training)


def _until_full(
    model: Decoder,
    sequences: list[GeneratedSequence],
    active: list[int],
    sampling: SamplingParams,
    eos_ids: frozenset[int],
    suppressed_ids: Collection[int],
    stopped: Collection[int],
) -> Iterator[list[tuple[int, int]]]:
    """Read the active sequences anew and generate until all are finished, or one of them has no position left.

    `active` is updated in place: indices of finished sequences are removed.
    """
    # the cached keys belong to old positions: everything is read anew, each row from its window's start
    device = model.embeddings.token.weight.device
    rows = [sequences[index] for index in active]
    longest_window = max(len(sequence.window) for sequence in rows)
    most_remaining = max(sequence.max_new_tokens - len(sequence.new_tokens) for sequence in rows)
    session = DecoderSession(model, len(rows), longest_window + most_remaining, suppressed_ids)
    logits = session.step(*left_pad([sequence.window for sequence in rows], device))  # (rows, vocab)
    # rows leave the batch as they finish; `active` keeps their indices among all prompts
    while True:
        previous_tokens = [sequence.tokens for sequence in rows]
        tokens = sample(logits, sampling, previous_tokens, [sequence.generator for sequence in rows]).tolist()
        for sequence, token in zip(rows, tokens, strict=True):
            sequence.new_tokens.append(token)
        yield list(zip(active, tokens, strict=True))
        unfinished = [
            row
            for row, sequence in enumerate(rows)
            if sequence.new_tokens[-1] not in eos_ids
            and len(sequence.new_tokens) < sequence.max_new_tokens
            and active[row] not in stopped
        ]
        full = any(len(rows[row].window) > model.max_seq_len for row in unfinished)
        if len(unfinished) < len(rows):
            active[:] = [active[row] for row in unfinished]
            rows = [rows[row] for row in unfinished]
            if not rows or full:
                return
            session.select(torch.tensor(unfinished, device=device))
        if full:
            return
        logits = session.step(torch.tensor([[sequence.new_tokens[-1]] for sequence in rows], device=device))


def complete(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampling: SamplingParams | None = None,
    eos_ids: Collection[int] = (),
    suppressed_ids: Collection[int] = (),
    seed: int = 0,
) -> list[list[int]]:
    """The new tokens of each prompt, without the end-of-sequence token (see `generate`)."""
    completions: list[list[int]] = [[] for _ in prompts]
    for step in generate(
        model, prompts, max_new_tokens=max_new_tokens, sampling=sampling, eos_ids=eos_ids, suppressed_ids=suppressed_ids,
        seed=seed,
    ):  # fmt: skip
        for index, token in step:
            if token not in eos_ids:
                completions[index].append(token)
    return completions
