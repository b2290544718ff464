"""A model whose attention is looked at: its tokens in words, and its attention weights as panels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import torch

from protoformer.blocks.attention import MultiHeadAttention
from protoformer.errors import ConfigurationError
from protoformer.models.backbone import Backbone
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.text.tokenizers import Tokenizer
from protoformer.text.translation_template import TranslationTemplate
from protoformer.views.attention import LARGEST
from protoformer.views.panels import Panel, Sequenced, Token, attending, of_backbone, of_encoder_decoder
from protoformer.views.token_labels import labels


@dataclass(frozen=True)
class Subject:
    """A model to look at. `template` None: it reads running text, without special tokens of a template."""

    name: str
    model: Backbone | EncoderDecoder
    tokenizer: Tokenizer
    template: Any
    special_ids: frozenset[int]
    special_words: Mapping[int, str]  # for ids that a template adds to the vocabulary

    @property
    def n_layers(self) -> int:
        if isinstance(self.model, EncoderDecoder):
            return max(len(stack.layers) for stack in (self.model.encoder, self.model.decoder))  # type: ignore[arg-type]
        return len(self.model.stack.layers)

    @property
    def n_heads(self) -> int:
        return max(part.n_heads if isinstance(part, MultiHeadAttention) else 1 for part in attending(self.model))


def subject(name: str, model: Any, tokenizer: Tokenizer, template: Any, *, reads_on: bool) -> Subject:
    """A model to look at; `reads_on` says that it reads running text. Raises ConfigurationError when nothing in it attends."""
    if not isinstance(model, Backbone | EncoderDecoder) or not attending(model):
        raise ConfigurationError(f"{name}: no layer of this model attends to tokens, so there is nothing to look at")
    roles = _roles(template)
    added = {number for number, token in tokenizer.hf_tokenizer.get_added_tokens_decoder().items() if token.special}
    return Subject(
        name,
        model.eval(),
        tokenizer,
        None if reads_on else template,
        frozenset(added | roles.keys()),
        {number: word for number, word in roles.items() if number >= tokenizer.vocab_size},
    )


def _roles(template: Any) -> dict[int, str]:
    """A template's special tokens, and words for them."""
    if isinstance(template, TranslationTemplate):
        return {template.bos_id: "[start]", template.eos_id: "[end]"}
    last = "[extract]" if template.pooled_token == "last" else "[end]"
    return {template.bos_id: "[start]", template.sep_id: "[delimiter]", template.eos_id: last}


def described(subject: Subject) -> str:
    """The model in a line."""
    model = subject.model
    return f"{subject.name}: {subject.n_layers} layers of {subject.n_heads} heads, {model.d_model} wide."


def panels_of(subject: Subject, texts: Sequence[Sequenced], layers: Sequence[int]) -> list[Panel]:
    """Of a text that is written already, or of a source and its target. Raises ConfigurationError where none of the layers
    attends."""
    if isinstance(subject.model, EncoderDecoder):
        panels = of_encoder_decoder(subject.model, texts[0], texts[1], layers)
    else:
        panels = of_backbone(subject.model, texts[0], layers)
    if not panels:
        raise ConfigurationError(f"--layers {','.join(map(str, layers))}: none of these layers attends; try others")
    return panels


def fits(layers: int, heads: int, *tokens: int) -> None:
    """Raises ConfigurationError when a page cannot hold so many weights: of each text over itself, and of one over another."""
    size = layers * heads * sum(a * b for a, b in combinations_with_replacement(tokens, 2))
    if size > LARGEST:
        over = " and ".join(map(str, tokens))
        raise ConfigurationError(
            f"{layers} layers of {heads} heads over {over} tokens are {size / 2**20:.0f} MB of weights; a page holds "
            f"{LARGEST / 2**20:.0f}: give a shorter text, or some of the layers (--layers 1,2)"
        )


def plain(subject: Subject, text: Sequenced) -> str:
    """What a sequence says, without special tokens and padding."""
    ids = [number for number, token in zip(text.ids.tolist(), text.tokens, strict=True) if not token.special]
    return subject.tokenizer.decode(ids)


def sequenced(subject: Subject, ids: Sequence[int], segments: Sequence[int], padding: int) -> Sequenced:
    """Ids with the words that show them, and so many tokens of padding behind."""
    words = labels(subject.tokenizer, ids)
    tokens = [
        Token(subject.special_words.get(number, word), number in subject.special_ids, segment=segment)
        for number, word, segment in zip(ids, words, segments, strict=True)
    ]
    pad_id = 0 if subject.template is None else subject.template.pad_id
    return Sequenced(
        torch.tensor([*ids, *[pad_id] * padding]),
        [*tokens, *[Token("[PAD]", special=True, padding=True)] * padding],
        torch.tensor([*segments, *[0] * padding]),
    )
