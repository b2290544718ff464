"""Text generation: a decoder with its tokenizer, from prompts to completions, up to the end of text or a stop string.

One character may take several tokens of a byte-level vocabulary, and a stop string may begin in one token and end in another.
So text is emitted when later tokens cannot change it, and stop strings are searched in the text, not in the tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Unpack

import torch

from protoformer.decoding.beam import BeamParams, beam_search
from protoformer.decoding.generation import generate
from protoformer.decoding.sampling import SamplingOptions, SamplingParams
from protoformer.decoding.session import DecoderSession, left_pad
from protoformer.errors import ConfigurationError
from protoformer.models.decoder import Decoder
from protoformer.text.tokenizers import Tokenizer

FinishReason = Literal["end", "stop", "length"]
REPLACEMENT_CHARACTER = "\ufffd"  # what an incomplete UTF-8 sequence decodes to
CONTEXT = 8  # previous tokens that are decoded with the new ones: they decide about spaces between words


@dataclass(frozen=True)
class Completion:
    """The text and tokens generated after a prompt.

    `finish_reason` is why it ended: `end` of text or a `stop` string (neither is part of `text`), or the maximum `length`.
    `score` is that of a beam search's hypothesis.
    """

    prompt: str
    text: str
    tokens: list[int]
    finish_reason: FinishReason
    score: float | None = None


class IncrementalDetokenizer:
    """Text from tokens that arrive one by one. `flush` gives the text that later tokens cannot change any more."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stop: Sequence[str]) -> None:
        self.tokenizer, self.stop = tokenizer, stop
        self.window = list(prompt[-CONTEXT:])  # the last tokens, which are decoded together
        self.pending_start = len(self.window)  # in the window, the first token whose text is not appended yet
        self.text = ""
        self.emitted = 0  # characters of the text that have been flushed
        self.tokens: list[int] = []
        self.finish_reason: FinishReason | None = None

    def add(self, token: int) -> None:
        self.tokens.append(token)
        self.window.append(token)
        prefix = self.tokenizer.decode(self.window[: self.pending_start])
        text = self.tokenizer.decode(self.window)
        if len(text) <= len(prefix) or text.endswith(REPLACEMENT_CHARACTER):
            return
        self._append(text[len(prefix) :])
        self.pending_start = len(self.window)
        dropped = max(0, self.pending_start - CONTEXT)
        self.window, self.pending_start = self.window[dropped:], self.pending_start - dropped

    def _append(self, text: str) -> None:
        search_start = max(0, len(self.text) - max(map(len, self.stop), default=0))
        self.text += text
        matches = [index for stop in self.stop if (index := self.text.find(stop, search_start)) >= 0]
        if matches:
            self.text, self.finish_reason = self.text[: min(matches)], "stop"

    def close(self, finish_reason: FinishReason) -> None:
        """No more tokens come: the pending ones are appended, an incomplete character included."""
        if self.finish_reason is None:
            prefix = self.tokenizer.decode(self.window[: self.pending_start])
            self.finish_reason = finish_reason
            self._append(self.tokenizer.decode(self.window)[len(prefix) :])

    def flush(self) -> str:
        """The text since the last call, without an ending that may be the beginning of a stop string."""
        end = len(self.text)
        if self.finish_reason is None:
            end -= max((_overlap(self.text, stop) for stop in self.stop), default=0)
        new_text, self.emitted = self.text[self.emitted : end], max(self.emitted, end)
        return new_text


def _overlap(text: str, stop: str) -> int:
    """The length of the longest ending of `text` that is a beginning of `stop`, but not all of it."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


class TextGenerator:
    """A decoder and its tokenizer. A text ends at a token of `eos_ids`.

    Rows of the embedding that are no token of the vocabulary, and no end, are never generated.
    """

    def __init__(self, model: Decoder, tokenizer: Tokenizer, eos_ids: Sequence[int] = ()) -> None:
        self.model, self.tokenizer, self.eos_ids = model.eval(), tokenizer, tuple(eos_ids)
        self.suppressed_ids = tokenizer.ids_without_token(model.embeddings.token.num_embeddings) - set(eos_ids)

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        max_new_tokens: int = 64,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        batch_size: int = 16,
        **sampling: Unpack[SamplingOptions],
    ) -> list[Completion]:
        """The completion of each prompt, in order.

        `sampling` are the fields of `SamplingParams` (`temperature`, `top_k`, `top_p`, `repetition_penalty`); greedy decoding
        without them. Raises ConfigurationError for an empty prompt, an empty stop string, or a value out of range.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        completions: list[Completion] = []
        for start in range(0, len(prompts), batch_size):
            batch = prompts[start : start + batch_size]
            detokenizers = self._detokenizers(batch, stop, start)
            for _ in self._steps(batch, detokenizers, max_new_tokens, SamplingParams(**sampling), seed):
                pass
            completions += map(_completion, batch, detokenizers)
        return completions

    def stream(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 64,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        **sampling: Unpack[SamplingOptions],
    ) -> Iterator[str]:
        """The completion of one prompt in pieces, each as soon as later tokens cannot change it."""
        (detokenizer,) = detokenizers = self._detokenizers([prompt], stop, 0)
        for _ in self._steps([prompt], detokenizers, max_new_tokens, SamplingParams(**sampling), seed):
            if new_text := detokenizer.flush():
                yield new_text

    @torch.inference_mode()
    def beam_search(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 64,
        params: BeamParams | None = None,
        stop: str | Sequence[str] = (),
    ) -> list[Completion]:
        """Up to `num_beams` completions of one prompt, the best first. They are cut at a stop string after the search."""
        self._detokenizers([prompt], stop, 0)  # raises for an empty prompt before anything is computed
        (ids,) = self._encode([prompt])
        max_prompt = self.model.max_seq_len - max_new_tokens
        if max_prompt < 1:
            raise ConfigurationError(
                f"max_new_tokens={max_new_tokens}: beam search does not slide; of the model's {self.model.max_seq_len} "
                "positions the prompt needs at least one"
            )
        ids = ids[-max_prompt:]
        session = DecoderSession(self.model, 1, len(ids) + max_new_tokens, self.suppressed_ids)
        logits = session.step(*left_pad([ids], self.model.embeddings.token.weight.device))
        (hypotheses,) = beam_search(
            session, logits, max_new_tokens=max_new_tokens, eos_ids=self.eos_ids, params=params or BeamParams()
        )
        completions = []
        for hypothesis in hypotheses:
            detokenizer = IncrementalDetokenizer(self.tokenizer, ids, [stop] if isinstance(stop, str) else stop)
            ended = bool(hypothesis.tokens) and hypothesis.tokens[-1] in self.eos_ids
            for token in hypothesis.tokens[: -1 if ended else None]:
                detokenizer.add(token)
            detokenizer.close("end" if ended else "length")
            completions.append(replace(_completion(prompt, detokenizer), score=hypothesis.score))
        return completions

    def _detokenizers(
        self, prompts: Sequence[str], stop: str | Sequence[str], first_index: int
    ) -> list[IncrementalDetokenizer]:
        """One for each prompt. `first_index` is the first prompt's index in the call, for error messages."""
        stop = [stop] if isinstance(stop, str) else stop
        if not all(stop):
            raise ConfigurationError("stop: an empty string matches everywhere; leave it out")
        encoded = self._encode(prompts, first_index)
        return [IncrementalDetokenizer(self.tokenizer, ids, stop) for ids in encoded]

    def _encode(self, prompts: Sequence[str], first_index: int = 0) -> list[list[int]]:
        """Ids of prompts; an empty one is the token that ends a text, after which a text begins."""
        encoded = self.tokenizer.encode(prompts)
        for index, (prompt, ids) in enumerate(zip(prompts, encoded, strict=True), start=first_index):
            if not ids and (prompt or not self.eos_ids):
                raise ConfigurationError(f"prompt {index + 1} is empty: there is nothing to continue")
        return [ids or [self.eos_ids[0]] for ids in encoded]

    def _steps(
        self,
        prompts: Sequence[str],
        detokenizers: Sequence[IncrementalDetokenizer],
        max_new_tokens: int,
        sampling: SamplingParams,
        seed: int,
    ) -> Iterator[None]:
        """One step of all prompts at a time, until every detokenizer is closed."""
        stopped: set[int] = set()
        for step in generate(
            self.model,
            self._encode(prompts),
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            eos_ids=self.eos_ids,
            suppressed_ids=self.suppressed_ids,
            seed=seed,
            stopped=stopped,
        ):
            for index, token in step:
                detokenizer = detokenizers[index]
                if token in self.eos_ids:
                    detokenizer.close("end")
                    continue
                detokenizer.add(token)
                if detokenizer.finish_reason is not None:
                    stopped.add(index)
                elif len(detokenizer.tokens) == max_new_tokens:
                    detokenizer.close("length")
            yield


def _completion(prompt: str, detokenizer: IncrementalDetokenizer) -> Completion:
    assert detokenizer.finish_reason is not None
    return Completion(prompt, detokenizer.text, detokenizer.tokens, detokenizer.finish_reason)
