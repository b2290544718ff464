"""A context and its completion as token ids, encoded as one text."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from protoformer.errors import ConfigurationError


class TextEncoder(Protocol):
    """What encodes texts, such as `Tokenizer`."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]: ...


class EncodedPair(NamedTuple):
    """A context and its completion as one sequence; `merged`: a token of the whole text crosses the boundary."""

    ids: list[int]
    start: int
    merged: bool


def encode_pairs(
    tokenizer: TextEncoder, contexts: Sequence[str], completions: Sequence[str], start_id: int | None
) -> list[EncodedPair]:
    """Each context with its completion, encoded as one text.

    White space at a context's end belongs to the completion: in a byte-level vocabulary it is a part of the next word. The
    completion's tokens are those of the whole text behind as many as the context has by itself. An empty context is `start_id`,
    the token between documents. Raises ConfigurationError where the vocabulary has none.
    """
    stripped = [context.rstrip() for context in contexts]
    wholes = [context + completion for context, completion in zip(contexts, completions, strict=True)]
    unique = list(dict.fromkeys(stripped))  # the context of several choices is encoded once
    encoded = dict(zip(unique, tokenizer.encode(unique), strict=True))
    pairs = []
    for context, whole in zip(stripped, tokenizer.encode(wholes), strict=True):
        before = encoded[context]
        start = min(len(before), len(whole) - 1)
        ids = [*before[:start], *whole[start:]]
        if not start:
            if start_id is None:
                raise ConfigurationError(
                    "a prompt without context, and the vocabulary has no token to begin a text with"
                )
            ids, start = [start_id, *ids], 1
        pairs.append(EncodedPair(ids, start, whole[: len(before)] != before))
    return pairs
