"""The logit that a gradient attribution explains: what `TaskModule.logit_target` returns, and the choice of a token."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protoformer.blocks.kernels.packing import HiddenStates
from protoformer.errors import ConfigurationError
from protoformer.models.backbone import Backbone
from protoformer.text.tokenizers import Tokenizer


@dataclass(frozen=True)
class LogitTarget:
    """A logit by name. `logit` gives it from the hidden states of texts of the same length, one number each.

    `token_id` is the token whose logit it is, where it is one of the vocabulary.
    """

    name: str
    logit: Callable[[HiddenStates], Float[Tensor, "batch"]]
    token_id: int | None = None


@dataclass(frozen=True)
class EncodedQuery:
    """One text as a model has read it, without padding: its ids, which tokens are special, and the hidden states.

    `requested` names the label or the token whose logit is to be explained; None: the one that the model predicts.
    """

    ids: Int[Tensor, "seq"]
    special: Bool[Tensor, "seq"]
    pooler_position: int
    hidden: HiddenStates
    tokenizer: Tokenizer
    requested: str | None = None


def pooler_positions(hidden: HiddenStates, position: int) -> Int[Tensor, "batch"]:
    """The same position in each text."""
    return torch.full((hidden.layout.batch,), position, device=hidden.tokens.device)


def next_token_target(backbone: Backbone, query: EncodedQuery) -> LogitTarget:
    """The logit of the token after the text, by a causal language model."""
    last = len(query.ids) - 1

    def logits(hidden: HiddenStates) -> Float[Tensor, "batch vocab"]:
        return hidden.at(pooler_positions(hidden, last)) @ backbone.output_weight.T

    token = chosen_token(query, logits(query.hidden)[0])
    return LogitTarget("next token", lambda hidden: logits(hidden)[:, token], token)


def label_target(
    query: EncodedQuery, logits: Callable[[HiddenStates], Float[Tensor, "batch labels"]], names: Sequence[str]
) -> LogitTarget:
    """The logit of the requested label, or of the one with the largest. Raises ConfigurationError for one that is no label."""
    if query.requested is not None and query.requested not in names:
        raise ConfigurationError(f"--target {query.requested!r}: the model has {', '.join(names[:20])}")
    label = int(logits(query.hidden)[0].argmax()) if query.requested is None else names.index(query.requested)
    return LogitTarget(names[label], lambda hidden: logits(hidden)[:, label])


def chosen_token(query: EncodedQuery, logits: Float[Tensor, "vocab"]) -> int:
    """The id of the requested token, or of the most probable one of the vocabulary.

    Raises ConfigurationError for a request that is no single token.
    """
    if query.requested is None:
        unused = torch.tensor(sorted(query.tokenizer.ids_without_token(len(logits))), dtype=torch.long)
        return int(logits.index_fill(0, unused.to(logits.device), -math.inf).argmax())
    (ids,) = query.tokenizer.encode([query.requested])
    if len(ids) != 1:
        names = ", ".join(query.tokenizer.hf_tokenizer.id_to_token(index) or f"id {index}" for index in ids)
        raise ConfigurationError(
            f"--target {query.requested!r} is {len(ids)} tokens of the model{f' ({names})' if ids else ''}: name one token"
        )
    return ids[0]
