"""Answers that the model writes (arXiv 2005.14165, section 2.4): decoded behind a prompt, up to a stop.

Prompts that begin alike, with the same shots, run that beginning once: its keys and values are copied to the rows of a batch,
whose remainders are padded on the left. Where padding between two tokens would change what they see (a window of attention, a
recurrence, a convolution), each batch reads its prompts whole.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from protoformer.blocks.kernels.cache import KeyValueCache
from protoformer.decoding.beam import BeamParams, beam_search
from protoformer.decoding.session import DecoderSession, left_pad
from protoformer.errors import DataError
from protoformer.incontext.prefix_scoring import shared_length
from protoformer.models.decoder import Decoder

CACHED_TOKENS = 16_384  # 1.2 GB of keys and values of GPT-2 small in float32


@dataclass(frozen=True)
class AnswerParams:
    """How answers are decoded: at most `max_new_tokens`, up to a token of `stop_ids`, which is no part of them; greedily, or
    by beam search with `num_beams` and this exponent of the length penalty (`decoding.beam`), prompt by prompt. Greedy decoding
    answers prompts together while they and their answers have at most `cached_tokens` tokens, or else one alone."""

    max_new_tokens: int
    stop_ids: Collection[int] = ()
    num_beams: int = 1
    length_penalty: float = 0.6
    cached_tokens: int = CACHED_TOKENS


class AnswerWriter:
    """A model that answers prompts. Tokens of `suppressed_ids` are never written."""

    def __init__(self, model: Decoder, params: AnswerParams, suppressed_ids: Collection[int] = ()) -> None:
        self.model, self.params, self.suppressed_ids = model, params, suppressed_ids
        self._expands_prefix = all(
            isinstance(cache, KeyValueCache) and getattr(getattr(layer, "attention", None), "window", None) is None
            for cache, layer in zip(model.init_caches(1, 1), model.stack.layers, strict=True)
        )
        self._prefix: list[int] = []
        self._prefix_session: DecoderSession | None = None

    @torch.inference_mode()
    def answer(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """The tokens written behind each prompt. Raises DataError for a prompt that leaves no room for them."""
        longest = max(map(len, prompts), default=0)
        if longest + self.params.max_new_tokens > self.model.max_seq_len + 1:
            raise DataError(
                f"a prompt of {longest} tokens and {self.params.max_new_tokens} for its answer: the model has "
                f"{self.model.max_seq_len} positions"
            )
        if not prompts:
            return []
        if self.params.num_beams > 1:
            return [self._by_beam(list(prompt)) for prompt in prompts]
        return [answer for group in self._groups(prompts) for answer in self._greedy(*self._read(group))]

    def _groups(self, prompts: Sequence[Sequence[int]]) -> Iterator[list[list[int]]]:
        """Prompts in order, as many together as may be cached; all of a group take the positions of its longest one."""
        group: list[list[int]] = []
        longest = 0
        for prompt in prompts:
            longest = max(longest, len(prompt))
            if group and (len(group) + 1) * (longest + self.params.max_new_tokens) > self.params.cached_tokens:
                yield group
                group, longest = [], len(prompt)
            group.append(list(prompt))
        yield group

    def _read(self, prompts: list[list[int]]) -> tuple[DecoderSession, Float[Tensor, "rows vocab"]]:
        """A session that has read the prompts, and the logits of the token behind each."""
        device = self.model.output_weight.device
        longest = max(map(len, prompts)) + self.params.max_new_tokens
        ordered = sorted(prompts)
        shared = min(shared_length(ordered[0], ordered[-1]), min(map(len, prompts)) - 1) if self._expands_prefix else 0
        if not shared:
            session = DecoderSession(self.model, len(prompts), longest, self.suppressed_ids)
            return session, session.step(*left_pad(prompts, device))
        self._run_prefix(prompts[0][:shared])
        session = DecoderSession(self.model, len(prompts), longest, self.suppressed_ids)
        assert self._prefix_session is not None
        for cache, prefix in zip(session.caches, self._prefix_session.caches, strict=True):
            keys, values = cast(KeyValueCache, prefix).kv()
            cast(KeyValueCache, cache).update(
                keys.expand(len(prompts), -1, -1, -1), values.expand(len(prompts), -1, -1, -1)
            )
        return session, session.step(*left_pad([prompt[shared:] for prompt in prompts], device))

    def _run_prefix(self, prefix: list[int]) -> None:
        """Run what the last batch's prefix does not have."""
        common = shared_length(self._prefix, prefix)
        if self._prefix_session is None:
            self._prefix_session = DecoderSession(self.model, 1, self.model.max_seq_len)
        nothing = torch.empty(0, dtype=torch.long, device=self.model.output_weight.device)
        for cache in self._prefix_session.caches:
            cast(KeyValueCache, cache).keep(common, nothing)
        if len(prefix) > common:
            ids = torch.tensor([prefix[common:]], device=nothing.device)
            self.model.decode_step(ids, self._prefix_session.caches)
        self._prefix = prefix

    def _greedy(self, session: DecoderSession, logits: Float[Tensor, "rows vocab"]) -> list[list[int]]:
        answers: list[list[int]] = [[] for _ in range(len(logits))]
        rows = list(range(len(logits)))  # those that are not finished
        for step in range(self.params.max_new_tokens):
            tokens = logits.argmax(-1)  # (rows,)
            unfinished = []
            for index, token in enumerate(tokens.tolist()):
                if token not in self.params.stop_ids:
                    answers[rows[index]].append(token)
                    unfinished.append(index)
            if not unfinished or step == self.params.max_new_tokens - 1:
                break
            if len(unfinished) < len(rows):
                rows = [rows[index] for index in unfinished]
                kept = torch.tensor(unfinished, device=logits.device)
                session.select(kept)
                tokens = tokens[kept]
            logits = session.step(tokens[:, None])
        return answers

    def _by_beam(self, prompt: list[int]) -> list[int]:
        session, logits = self._read([prompt])
        params = BeamParams(num_beams=self.params.num_beams, alpha=self.params.length_penalty)
        ((best, *_),) = beam_search(
            session,
            logits,
            max_new_tokens=self.params.max_new_tokens,
            eos_ids=tuple(self.params.stop_ids),
            params=params,
        )
        ended = bool(best.tokens) and best.tokens[-1] in self.params.stop_ids
        return list(best.tokens[: -1 if ended else None])
