"""Going on with prompts, token by token.

A prompt is read in one pass, then each new token costs one row of attention. When a text has filled the model's positions it
*slides*: the last half of it is read anew, as if the text had begun there, and generation goes on (learned positions cannot
move, so what was kept of the rest is of no use). A prompt that leaves too little room loses its beginning in the same way.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from protoformer.decoding.sampling import Choosing
from protoformer.decoding.session import DecoderReader, side_by_side
from protoformer.errors import ConfigurationError
from protoformer.models.decoder import Decoder


@dataclass
class Text:
    """One of the texts that are gone on with."""

    prompt: list[int]
    max_new: int
    generator: torch.Generator
    new: list[int] = field(default_factory=list)
    begin: int = 0  # of prompt and new tokens, the first that is still read

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.new

    @property
    def window(self) -> list[int]:
        return self.tokens[self.begin :]


@torch.inference_mode()
def generate(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_new: int,
    choosing: Choosing | None = None,
    end: Collection[int] = (),
    seed: int = 0,
    closed: Collection[int] = (),
) -> Iterator[list[tuple[int, int]]]:
    """Step after step, (number of the prompt, its next token) for every prompt that is not at its end.

    A prompt ends after `max_new` tokens, or with the first token of `end`, which is given too, or when the caller has put its
    number into `closed`. Each prompt gets what it would get alone: its draws are its own, from the same `seed`. Raises
    ConfigurationError for an empty prompt.
    """
    if max_new < 1:
        raise ConfigurationError(f"max_new={max_new}: at least one token")
    if empty := [number for number, prompt in enumerate(prompts) if not prompt]:
        raise ConfigurationError(f"prompt {empty[0]} is empty: there is nothing to go on with")
    choosing = choosing or Choosing()
    texts = [Text(list(prompt), max_new, torch.Generator().manual_seed(seed)) for prompt in prompts]
    room = min(max_new, model.max_seq_len // 2)
    for text in texts:
        text.begin = max(0, len(text.prompt) - (model.max_seq_len - room))
    open_texts = list(range(len(texts)))
    training = model.training
    model.eval()
    try:
        while open_texts:
            yield from _until_full(model, texts, open_texts, choosing, frozenset(end), closed)
            for number in open_texts:
                text = texts[number]
                if len(text.window) > model.max_seq_len:
                    text.begin = len(text.tokens) - model.max_seq_len // 2
    finally:
        model.train(training)


def _until_full(
    model: Decoder,
    texts: list[Text],
    open_texts: list[int],
    choosing: Choosing,
    end: frozenset[int],
    closed: Collection[int],
) -> Iterator[list[tuple[int, int]]]:
    """Read what is open and go on until all of it has ended or one text has no position left; drops from `open_texts`."""
    device = model.embeddings.token.weight.device
    rows = [texts[number] for number in open_texts]
    longest = max(len(text.window) for text in rows)
    most = max(text.max_new - len(text.new) for text in rows)
    reader = DecoderReader(model, len(rows), longest + most)
    logits = reader.read(*side_by_side([text.window for text in rows], device))
    while True:
        chosen = choosing(logits, [text.tokens for text in rows], [text.generator for text in rows]).tolist()
        for text, token in zip(rows, chosen, strict=True):
            text.new.append(token)
        yield list(zip(open_texts, chosen, strict=True))
        going = [
            place
            for place, text in enumerate(rows)
            if text.new[-1] not in end and len(text.new) < text.max_new and open_texts[place] not in closed
        ]
        full = any(len(rows[place].window) > model.max_seq_len for place in going)
        if len(going) < len(rows):
            open_texts[:] = [open_texts[place] for place in going]
            rows = [rows[place] for place in going]
            if not rows or full:
                return
            reader.select(torch.tensor(going, device=device))
        if full:
            return
        logits = reader.read(torch.tensor([[text.new[-1]] for text in rows], device=device))


def complete(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_new: int,
    choosing: Choosing | None = None,
    end: Collection[int] = (),
    seed: int = 0,
) -> list[list[int]]:
    """The new tokens of each prompt, without the one that ended it (see `generate`)."""
    found: list[list[int]] = [[] for _ in prompts]
    for step in generate(model, prompts, max_new=max_new, choosing=choosing, end=end, seed=seed):
        for number, token in step:
            if token not in end:
                found[number].append(token)
    return found
