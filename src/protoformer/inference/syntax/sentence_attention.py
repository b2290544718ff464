"""Attention between the words of a treebank's sentences, in batches, from any model that `protoformer attention` shows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from protoformer.errors import ConfigurationError
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.syntax.treebank import Sentence
from protoformer.syntax.word_attention import NO_WORD, WordAttention, between_words, shared_words, words_of_tokens
from protoformer.views.inspected_model import InspectedModel

Side = Literal["source", "target", "cross"]
SIDES: dict[Side, str] = {
    "source": "self-attention of its encoder", "target": "self-attention of its decoder", "cross": "attention to the source"
}  # fmt: skip
MAX_WEIGHTS = 2**23  # between tokens, of all heads, in memory at once


@dataclass(frozen=True)
class Tokens:
    """A sentence as one stack of a model reads it. `words` has the word of each token, NO_WORD for special tokens."""

    ids: list[int]
    segment_ids: list[int]
    words: list[int]


@dataclass(frozen=True)
class EncodedSentence:
    """A sentence with its tokens: one sequence, or source and target of an encoder-decoder."""

    sentence: Sentence
    texts: tuple[Tokens, ...]

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(len(text.ids) for text in self.texts)


def encode(inspected: InspectedModel, sentences: Sequence[Sentence]) -> list[EncodedSentence]:
    """The sentences as the model reads them, without those that have more tokens than it has positions."""
    ids, offsets = inspected.tokenizer.encode_with_offsets([sentence.text for sentence in sentences])
    encoded = []
    for sentence, of_sentence, of_tokens in zip(sentences, ids, offsets, strict=True):
        words = words_of_tokens(of_tokens, sentence.offsets)
        each = EncodedSentence(sentence, _texts(inspected, of_sentence, words))
        if of_sentence and max(each.lengths) <= inspected.model.max_seq_len:
            encoded.append(each)
    return encoded


def _texts(inspected: InspectedModel, ids: list[int], words: list[int]) -> tuple[Tokens, ...]:
    template = inspected.template
    if isinstance(inspected.model, EncoderDecoder):
        segment_ids = [0] * (len(ids) + 1)
        source = Tokens([*ids, template.eos_id], segment_ids, [*words, NO_WORD])
        return source, Tokens([template.bos_id, *ids], segment_ids, [NO_WORD, *words])
    if template is None:
        before = [] if inspected.start_id is None else [inspected.start_id]
        return (Tokens([*before, *ids], [0] * (len(before) + len(ids)), [*[NO_WORD] * len(before), *words]),)
    encoded = template.encode_texts([ids], None, len(ids) + 3)
    after = len(encoded.ids) - len(template.prefix) - len(ids)
    padded = [*[NO_WORD] * len(template.prefix), *words, *[NO_WORD] * after]
    return (Tokens(encoded.ids.tolist(), encoded.segment_ids.tolist(), padded),)


def word_attention(
    inspected: InspectedModel, encoded: Sequence[EncodedSentence], side: Side | None = None
) -> Iterator[WordAttention]:
    """Weights between words, all heads of all layers in a row, of batches of sentences with as many tokens, the shortest first.

    `side` of an encoder-decoder: its encoder's over the source, its decoder's over the target, or from target to source. It
    reads the sentence on both sides then: nothing else has its words. A query to the source is the word that it is to write,
    the one after the word that it has read.
    """
    heads = inspected.n_layers * inspected.n_heads
    for lengths, group in groupby(sorted(encoded, key=lambda each: each.lengths), key=lambda each: each.lengths):
        alike = list(group)
        size = max(1, MAX_WEIGHTS // (heads * max(lengths) ** 2))
        for first in range(0, len(alike), size):
            batch = alike[first : first + size]
            weights = torch.cat(list(weights_of_layers(inspected, batch, side).values()), dim=1)
            source, target = (torch.tensor([each.texts[text].words for each in batch]) for text in (0, -1))
            generated = torch.cat([target[:, 1:], torch.full_like(target[:, :1], NO_WORD)], dim=1)
            sentences = [each.sentence for each in batch]
            yield between_words(
                weights,
                {"target": target, "cross": generated}.get(side or "source", source),
                target if side == "target" else source,
                sentences,
                [shared_words(sentence.offsets) for sentence in sentences],
            )


@torch.no_grad()
def weights_of_layers(
    inspected: InspectedModel, batch: Sequence[EncodedSentence], side: Side | None = None
) -> dict[int, Float[Tensor, "batch heads queries keys"]]:
    """Weights between tokens of each layer that has attention on that side, by the layer's number from 1."""
    model, every = inspected.model, range(inspected.n_layers)
    inputs = [_batch(batch, index) for index in range(len(batch[0].texts))]
    if not isinstance(model, EncoderDecoder):
        # forward and not __call__: a model that is compiled in place would be compiled again for this one call
        return _by_number(model.forward(*inputs[0], attn_layers=every).attn_weights)
    memory = model.encode(*inputs[0][:2], every if side == "source" else ())
    if side == "source":
        return _by_number(memory.attn_weights)
    hidden = model.decode(*inputs[1][:2], memory, every)
    return _by_number(hidden.attn_weights if side == "target" else hidden.cross_attn_weights)


def layers_of(inspected: InspectedModel, encoded: EncodedSentence, side: Side | None = None) -> dict[int, int]:
    """The number of heads of each layer that has attention on that side, by the layer's number from 1."""
    return {layer: weights.shape[1] for layer, weights in weights_of_layers(inspected, [encoded], side).items()}


def checked_side(inspected: InspectedModel, encoded: EncodedSentence, side: Side | None) -> Side | None:
    """The side that is meant: by default the first one that has attention. Raises ConfigurationError for one that has none."""
    if not isinstance(inspected.model, EncoderDecoder):
        if side is not None:
            raise ConfigurationError(f"--side {side}: this model is one stack of layers; leave --side out")
        return None
    with_attention = [name for name in SIDES if weights_of_layers(inspected, [encoded], name)]
    if side is not None and side not in with_attention:
        raise ConfigurationError(
            f"--side {side}: this model has no {SIDES[side]}; choose {' or '.join(with_attention)}"
        )
    return side or with_attention[0]


def is_causal(inspected: InspectedModel, side: Side | None) -> bool:
    """Whether a word attends to earlier words alone."""
    return side == "target" if isinstance(inspected.model, EncoderDecoder) else inspected.model.causal


def _batch(batch: Sequence[EncodedSentence], text: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, padding mask (nothing is padded) and segments."""
    ids = torch.tensor([each.texts[text].ids for each in batch])
    segment_ids = torch.tensor([each.texts[text].segment_ids for each in batch])
    return ids, torch.ones_like(ids, dtype=torch.bool), segment_ids


def _by_number(attn_weights: Mapping[int, Tensor]) -> dict[int, Float[Tensor, "batch heads queries keys"]]:
    return {index + 1: attn_weights[index].float() for index in sorted(attn_weights)}
