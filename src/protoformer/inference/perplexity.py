"""Perplexity of a causal language model on texts, by strided windows.

Every token of a text is predicted once, from the tokens before it that fit into the model's positions with it; the first one
from the end-of-text token, which itself is not scored. Windows of `window` tokens advance by `stride`: a window scores the last
`stride` predictions (the first window all of them), so each of those has at least `window - stride` tokens before it. A smaller
stride gives more context and a lower perplexity, and takes more time; `stride = window` cuts the text into blocks.

    token perplexity = exp(-sum of log P / tokens), word perplexity = exp(-sum of log P / words),
    bits per byte = -sum of log2 P / bytes

Words are separated by white space, bytes are those of UTF-8: both compare models with different vocabularies.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from protoformer.distributed.memory import batch_advice, memory_advice
from protoformer.errors import ConfigurationError, DataError
from protoformer.models.decoder import Decoder
from protoformer.text.prompts.pairs import TextEncoder

BATCH_TOKENS = 4096  # of windows that are read at once


@dataclass(frozen=True)
class LanguageModelScore:
    """Sums over all texts: -log P in nats, tokens, words, bytes; and how they were computed."""

    negative_log_likelihood: float
    tokens: int
    words: int
    text_bytes: int
    window: int
    stride: int

    @property
    def token_perplexity(self) -> float:
        return _exp(self.negative_log_likelihood / self.tokens)

    @property
    def word_perplexity(self) -> float:
        return _exp(self.negative_log_likelihood / max(1, self.words))

    @property
    def bits_per_byte(self) -> float:
        return self.negative_log_likelihood / math.log(2.0) / self.text_bytes


@dataclass(frozen=True)
class Window:
    """Tokens that a model reads at once, and the one after them; the last `targets` are scored."""

    ids: Sequence[int]
    targets: int


def windows(ids: Sequence[int], window: int, stride: int) -> Iterator[Window]:
    """Windows of a sequence, of which each token but the first is a target once."""
    done = 1
    while done < len(ids):
        # the first window scores all of its tokens, later ones `stride` each
        stop = min(len(ids), window + 1 if done == 1 else done + stride)
        yield Window(ids[max(0, stop - window - 1) : stop], stop - done)
        done = stop


def score_texts(
    model: Decoder,
    tokenizer: TextEncoder,
    texts: Iterable[str],
    end_id: int,
    *,
    stride: int | None = None,
    window: int | None = None,
    rows: int | None = None,
) -> LanguageModelScore:
    """The score of texts, each by itself. `window` is the model's positions where it is None, `stride` half of the window.

    `rows` windows are read at once (default: 4,096 tokens).

    Raises ConfigurationError for a window or stride out of range, DataError where there is no token, DeviceMemoryError where
    memory does not hold the windows.
    """
    window = model.max_seq_len if window is None else window
    if not 1 <= window <= model.max_seq_len:
        raise ConfigurationError(f"a window of {window} tokens: from 1 to the model's {model.max_seq_len} positions")
    stride = max(1, window // 2) if stride is None else stride
    if not 1 <= stride <= window:
        raise ConfigurationError(f"a stride of {stride} tokens: from 1 to the window of {window}")
    rows = max(1, BATCH_TOKENS // window) if rows is None else rows
    smaller = f"a smaller window than task.max_len={window} gives each token less context and takes less"
    total, tokens, words, text_bytes = 0.0, 0, 0, 0
    for text in texts:
        (ids,) = tokenizer.encode([text])
        with memory_advice(lambda: batch_advice(rows, "windows", "hardware.micro_batch=", otherwise=smaller)):
            total -= sum(token_log_probs(model, [end_id, *ids], window, stride, rows))
        tokens, words = tokens + len(ids), words + len(text.split())
        text_bytes += len(text.encode())
    if not tokens:
        raise DataError("there is no token to predict: the texts are empty")
    return LanguageModelScore(total, tokens, words, text_bytes, window, stride)


@torch.inference_mode()
def token_log_probs(model: Decoder, ids: Sequence[int], window: int, stride: int, rows: int) -> Iterator[float]:
    """log P of each token of a sequence but the first, given those before it in its window; `rows` windows at once."""
    batch: list[Window] = []
    for each in windows(ids, window, stride):
        if batch and (len(each.ids) != len(batch[0].ids) or len(batch) == rows):
            yield from _log_probs(model, batch)
            batch = []
        batch.append(each)
    if batch:
        yield from _log_probs(model, batch)


def _log_probs(model: Decoder, batch: Sequence[Window]) -> list[float]:
    """Of windows of equal length."""
    device = model.embeddings.token.weight.device
    ids = torch.tensor([list(each.ids) for each in batch], device=device)
    hidden = model(ids[:, :-1], torch.ones_like(ids[:, :-1], dtype=torch.bool)).to_padded()
    log_probs: list[float] = []
    for row, each in enumerate(batch):
        logits: Float[Tensor, "targets vocab"] = model.logits(hidden[row, -each.targets :]).float()
        losses = functional.cross_entropy(logits, ids[row, -each.targets :], reduction="none")
        log_probs += (-losses.double()).tolist()
    return log_probs


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))
