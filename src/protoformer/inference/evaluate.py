"""`protoformer evaluate task=lm/files`: a language model's perplexity on files, printed as a table.

The texts, windows and losses are those of the task `lm/files`; nothing is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protoformer.data.running_text.reader import RunningTextReader
from protoformer.data.running_text.table import WindowCollate, WindowTable, window_table
from protoformer.data.running_text.windows import check_stride
from protoformer.data.sources.files import FilesSource
from protoformer.distributed.memory import batch_advice, memory_advice
from protoformer.errors import ConfigurationError
from protoformer.incontext.window_losses import window_losses
from protoformer.inference.generate import load_decoder
from protoformer.models.decoder import Decoder
from protoformer.scoring.perplexity import measures

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
    token_perplexity: float
    word_perplexity: float
    bits_per_byte: float


def perplexity_of_files(
    source: str,
    patterns: Sequence[str],
    stride: int | None = None,
    window: int | None = None,
    rows: int | None = None,
    encoding: str | None = None,
) -> LanguageModelScore:
    """The score of a run, a folder of weights or a hub id on files: a text file is one text, rows of others are one each.

    `window` is the model's positions where it is None, `stride` half of the window; `rows` windows are read at once (default:
    4,096 tokens). Raises ConfigurationError for a model that is no decoder, and a window or stride out of range, DataError for
    files that cannot be read or hold no text, DeviceMemoryError where memory does not hold the windows.
    """
    generator = load_decoder(source)
    if not generator.eos_ids:
        raise ConfigurationError(f"{source}: its vocabulary has no end-of-text token, from which a text is begun")
    model = generator.model.eval()
    window = model.max_seq_len if window is None else window
    if not 1 <= window <= model.max_seq_len:
        raise ConfigurationError(f"task.max_len={window}: from 1 to the model's {model.max_seq_len} positions")
    stride = max(1, window // 2) if stride is None else stride
    check_stride(stride, window, "task.stride")
    read = RunningTextReader(".").read(FilesSource(patterns, encoding=encoding).texts())
    ids = generator.tokenizer.encode(read.texts)
    table = window_table(ids, generator.eos_ids[0], window, [stride])
    total = _negative_log_likelihood(model, table, rows or max(1, BATCH_TOKENS // window), window)
    tokens = sum(map(len, ids))
    measured = measures(total, {**read.stats, "tokens": tokens})
    return LanguageModelScore(
        negative_log_likelihood=total,
        tokens=tokens,
        words=read.counts.words,
        text_bytes=read.counts.bytes,
        window=window,
        stride=stride,
        token_perplexity=measured["perplexity_per_token"],
        word_perplexity=measured["perplexity_per_word"],
        bits_per_byte=measured["bits_per_byte"],
    )


def _negative_log_likelihood(model: Decoder, table: WindowTable, rows: int, window: int) -> float:
    """The sum over all windows, of which `rows` are read at once."""
    smaller = f"a smaller window than task.max_len={window} gives each token less context and takes less"
    order = np.argsort(-table.lengths, kind="stable").tolist()
    collate = WindowCollate(table, 0)
    total = 0.0
    with memory_advice(lambda: batch_advice(rows, "windows", "hardware.micro_batch=", otherwise=smaller)):
        for start in range(0, len(order), rows):
            batch: Any = collate(order[start : start + rows])
            on_device: Any = {name: value.to(model.output_weight.device) for name, value in batch.items()}
            total += float(window_losses(model, on_device).sum())
    return total


def print_perplexity(
    source: str,
    patterns: Sequence[str],
    *,
    stride: int | None,
    window: int | None,
    rows: int | None = None,
    encoding: str | None = None,
    origin: str = "the model's positions",
) -> None:
    """Print the score as a table; `origin` says where the window is from."""
    score = perplexity_of_files(source, patterns, stride, window, rows, encoding)
    shown = {
        "token perplexity": f"{score.token_perplexity:.4f}",
        "word perplexity": f"{score.word_perplexity:.4f}",
        "bits per byte": f"{score.bits_per_byte:.4f}",
        "tokens": f"{score.tokens:,}",
        "words": f"{score.words:,}",
        "bytes": f"{score.text_bytes:,}",
        "window": f"{score.window} tokens ({origin})",
        "stride": f"{score.stride} tokens",
    }
    for name, value in shown.items():
        print(f"{name:<18}{value}")
