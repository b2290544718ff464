"""Strided windows of a text: every token but the first is a target once, and has as many tokens before it as fit.

Windows of `window` tokens advance by `stride`. The first one scores all of its tokens, each later one the last `stride`, which
so have at least `window - stride` tokens before them. `stride = window` cuts a text into blocks.
"""

from collections.abc import Iterator
from typing import NamedTuple

from protoformer.errors import ConfigurationError


class Window(NamedTuple):
    """Tokens `start` to `stop` of a text. All but the last are read, and the last `targets` are scored."""

    start: int
    stop: int
    targets: int


def windows(tokens: int, window: int, stride: int) -> Iterator[Window]:
    """The windows of a text of so many tokens, the one from which it is begun included."""
    done = 1
    while done < tokens:
        stop = min(tokens, window + 1 if done == 1 else done + stride)
        yield Window(max(0, stop - window - 1), stop, stop - done)
        done = stop


def check_stride(stride: int, window: int, key: str) -> None:
    """Raises ConfigurationError for a stride that leaves tokens out."""
    if not 1 <= stride <= window:
        raise ConfigurationError(f"{key}={stride}: a stride is from 1 to the window of {window} tokens")
