"""Going on with texts: prompts in words, what a decoder adds to them in words, up to its end or a stop string.

Tokens are not letters: one letter may take several of a byte-level vocabulary, and a stop string may begin in one token and
end in another. So text is given out when it can no longer change, and a stop string is looked for in the text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Unpack

import torch

from protoformer.decoding.beam import Beam, search
from protoformer.decoding.generation import generate
from protoformer.decoding.sampling import Choosing, Words
from protoformer.decoding.session import DecoderReader, side_by_side
from protoformer.errors import ConfigurationError
from protoformer.models.decoder import Decoder
from protoformer.text.tokenizers import Tokenizer

Finish = Literal["end", "stop", "length"]
UNFINISHED = "\ufffd"  # what a letter whose bytes are not all there decodes to
CONTEXT = 8  # tokens before the new ones that decide how these are written (spaces between words)


@dataclass(frozen=True)
class Completion:
    """What was added to a prompt. `finish`: the model's end of text, a stop string (neither is part of `text`), or as many
    tokens as were asked for. `score` is a beam's."""

    prompt: str
    text: str
    tokens: list[int]
    finish: Finish
    score: float | None = None


class Growing:
    """The text of tokens that come one by one, given out as far as it is settled."""

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int], stop: Sequence[str]) -> None:
        self.tokenizer, self.stop = tokenizer, stop
        self.window = list(before[-CONTEXT:])
        self.begin = len(self.window)  # in the window, the first token whose text is not settled
        self.text = ""
        self.given = 0  # letters of the text that have been given out
        self.tokens: list[int] = []
        self.finish: Finish | None = None

    def add(self, token: int) -> None:
        self.tokens.append(token)
        self.window.append(token)
        known = self.tokenizer.decode(self.window[: self.begin])
        whole = self.tokenizer.decode(self.window)
        if len(whole) <= len(known) or whole.endswith(UNFINISHED):
            return
        self._append(whole[len(known) :])
        self.begin = len(self.window)
        spare = max(0, self.begin - CONTEXT)
        self.window, self.begin = self.window[spare:], self.begin - spare

    def _append(self, text: str) -> None:
        searched = max(0, len(self.text) - max(map(len, self.stop), default=0))
        self.text += text
        found = [place for stop in self.stop if (place := self.text.find(stop, searched)) >= 0]
        if found:
            self.text, self.finish = self.text[: min(found)], "stop"

    def close(self, finish: Finish) -> None:
        """No more tokens come: what was held back for its last letters is text as it is."""
        if self.finish is None:
            rest = self.tokenizer.decode(self.window)[len(self.tokenizer.decode(self.window[: self.begin])) :]
            self.finish = finish
            self._append(rest)

    def settled(self) -> str:
        """What has not been given out yet, without an end that may be the beginning of a stop string."""
        end = len(self.text)
        if self.finish is None:
            end -= max((_overlap(self.text, stop) for stop in self.stop), default=0)
        fresh, self.given = self.text[self.given : end], max(self.given, end)
        return fresh


def _overlap(text: str, stop: str) -> int:
    """How many of the last letters of `text` are the first of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


class Writer:
    """A decoder and its vocabulary. `end` are the tokens at which a text ends."""

    def __init__(self, model: Decoder, tokenizer: Tokenizer, end: Sequence[int] = ()) -> None:
        self.model, self.tokenizer, self.end = model.eval(), tokenizer, tuple(end)

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        max_new: int = 64,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        batch_size: int = 16,
        **how: Unpack[Words],
    ) -> list[Completion]:
        """The completion of each prompt, in order. `how` are the fields of `Choosing` (`temperature`, `top_k`, `top_p`,
        `repetition_penalty`); without them the likeliest token each time.

        Raises ConfigurationError for an empty prompt, an empty stop string, or numbers that mean nothing.
        """
        asked = [prompts] if isinstance(prompts, str) else list(prompts)
        found: list[Completion] = []
        for begin in range(0, len(asked), batch_size):
            texts = self._texts(asked[begin : begin + batch_size], stop, begin)
            for _ in self._steps(texts, max_new, Choosing(**how), seed):
                pass
            found += [self._completion(prompt, text) for prompt, text in texts]
        return found

    def stream(
        self,
        prompt: str,
        *,
        max_new: int = 64,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        **how: Unpack[Words],
    ) -> Iterator[str]:
        """The completion of one prompt, piece by piece, each as soon as it is settled."""
        texts = self._texts([prompt], stop, 0)
        ((_, text),) = texts
        for _ in self._steps(texts, max_new, Choosing(**how), seed):
            if fresh := text.settled():
                yield fresh

    @torch.inference_mode()
    def search(
        self, prompt: str, *, max_new: int = 64, beam: Beam | None = None, stop: str | Sequence[str] = ()
    ) -> list[Completion]:
        """The best completions of one prompt, the best first. A stop string cuts what was found."""
        stop = [stop] if isinstance(stop, str) else stop
        self._texts([prompt], stop, 0)
        ids = self.tokenizer.encode([prompt])[0]
        room = self.model.max_seq_len - max_new
        if room < 1:
            raise ConfigurationError(
                f"max_new={max_new}: a beam does not slide; of the model's {self.model.max_seq_len} positions the prompt "
                "needs one at least"
            )
        ids = ids[-room:]
        device = self.model.embeddings.token.weight.device
        reader = DecoderReader(self.model, 1, len(ids) + max_new)
        logits = reader.read(*side_by_side([ids], device))
        (ways,) = search(reader, logits, max_new=max_new, end=self.end, beam=beam or Beam())
        found = []
        for way in ways:
            text = Growing(self.tokenizer, ids, stop)
            over = bool(way.tokens) and way.tokens[-1] in self.end
            for token in way.tokens[: -1 if over else None]:
                text.add(token)
            text.close("end" if over else "length")
            found.append(replace(self._completion(prompt, text), score=way.score))
        return found

    def _texts(self, prompts: Sequence[str], stop: str | Sequence[str], first: int) -> list[tuple[str, Growing]]:
        stop = [stop] if isinstance(stop, str) else stop
        if not all(stop):
            raise ConfigurationError("stop: an empty string stands everywhere; leave it out")
        encoded = self.tokenizer.encode(prompts)
        for number, ids in enumerate(encoded, start=first):
            if not ids:
                raise ConfigurationError(f"prompt {number} is empty: there is nothing to go on with")
        return [(prompt, Growing(self.tokenizer, ids, stop)) for prompt, ids in zip(prompts, encoded, strict=True)]

    def _steps(
        self, texts: Sequence[tuple[str, Growing]], max_new: int, choosing: Choosing, seed: int
    ) -> Iterator[None]:
        """Token after token, until every text is closed."""
        prompts = self.tokenizer.encode([prompt for prompt, _ in texts])
        closed: set[int] = set()
        steps = generate(
            self.model, prompts, max_new=max_new, choosing=choosing, end=self.end, seed=seed, closed=closed
        )
        for step in steps:
            for number, token in step:
                text = texts[number][1]
                if token in self.end:
                    text.close("end")
                    continue
                text.add(token)
                if text.finish is not None:
                    closed.add(number)
                elif len(text.tokens) == max_new:
                    text.close("length")
            yield

    def _completion(self, prompt: str, text: Growing) -> Completion:
        assert text.finish is not None
        return Completion(prompt, text.text, text.tokens, text.finish)
