"""Masks: which key positions a query may attend to.

Boolean, **True = may attend**, everywhere in this project; `padding_mask` is True on real tokens. The patterns of the papers
are built here, and so is the softmax that obeys them: *Attention Is All You Need* (arXiv 1706.03762, section 3.2.3) sets
forbidden scores to minus infinity.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def expand_padding_mask(padding_mask: Bool[Tensor, "batch keys"]) -> Bool[Tensor, "batch 1 1 keys"]:
    """No query attends to padding: the padding mask with axes that broadcast over heads and queries."""
    return padding_mask[:, None, None, :]


def causal_mask(
    queries: int, keys: int, window: int | None = None, device: torch.device | None = None
) -> Bool[Tensor, "queries keys"]:
    """No query attends to a later position; with `window` w, nor to one w or more positions before it.

    The last query is at the last key, so that a decoder that continues from a cache gets the lower rows.
    """
    # columns are keys, rows queries; the queries are the last ones of the keys
    key = torch.arange(keys, device=device)
    query = torch.arange(keys - queries, keys, device=device)[:, None]
    allowed = key <= query
    return allowed if window is None else allowed & (query - key < window)


def local_mask(
    queries: int, keys: int, window: int, device: torch.device | None = None
) -> Bool[Tensor, "queries keys"]:
    """Restricted self-attention (arXiv 1706.03762, section 4): a neighbourhood of `window` positions to either side."""
    key = torch.arange(keys, device=device)
    query = torch.arange(keys - queries, keys, device=device)[:, None]
    # in both directions, as an encoder reads
    return (query - key).abs() <= window


def layer_mask(
    queries: int, keys: int, causal: bool, window: int | None, device: torch.device | None = None
) -> Bool[Tensor, "queries keys"] | None:
    """The mask of a layer with these options, or None where every query may see every key."""
    if causal and queries == 1 and (window is None or keys <= window):
        return None  # decoding: the newest position may see all that the cache holds
    # (queries, keys), broadcast over batch and heads
    if causal:
        return causal_mask(queries, keys, window, device)
    return None if window is None else local_mask(queries, keys, window, device)


def with_own_position(allowed: Bool[Tensor, "*batch queries keys"]) -> Bool[Tensor, "*batch queries keys"]:
    """The mask with each query allowed to see its own position; the last query is at the last key.

    That changes nothing for a real token. Padding may see no key otherwise (on the left under a causal mask, or further than a
    window from the last real token), and not every kernel gives zeros for such a query: a NaN in it would reach the real
    tokens' gradients.
    """
    queries, keys = allowed.shape[-2:]
    own = torch.zeros(queries, keys, dtype=torch.bool, device=allowed.device)
    own.diagonal(keys - queries).fill_(True)
    return allowed | own


def masked_softmax(
    scores: Float[Tensor, "*queries keys"], allowed: Bool[Tensor, "*#queries #keys"] | None
) -> Float[Tensor, "*queries keys"]:
    """softmax(scores) over the keys that are allowed, 0 elsewhere; all zeros for a query that may see nothing."""
    if allowed is None:
        return scores.softmax(-1)
    # the least finite number in place of -inf, then zero: a row of -inf would be NaN, in the gradients too
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~allowed, lowest).softmax(-1).masked_fill(~allowed, 0.0)


def additive_mask(allowed: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The mask as a float that is added to scores: 0 where a query may attend, else half of the least float32.

    Finite, so that a query that may see nothing has zero gradients and not NaN; the half leaves room for the score.
    """
    return torch.zeros(allowed.shape, device=allowed.device).masked_fill_(~allowed, torch.finfo(torch.float32).min / 2)
