"""InspectedModel: a model whose attention is shown, its inputs as labelled tokens, its attention weights as panels."""

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
from protoformer.views.attention import MAX_WEIGHTS
from protoformer.views.panels import (
    Panel,
    Token,
    TokenizedText,
    attention_layers,
    panels_of_backbone,
    panels_of_encoder_decoder,
)
from protoformer.views.token_labels import token_labels


@dataclass(frozen=True)
class InspectedModel:
    """A model with its tokenizer and input template. `template` None: a causal language model, which reads plain text.

    `start_id` is the token that such a model has read before the first one of a document: the end of the one before.
    """

    name: str
    model: Backbone | EncoderDecoder
    tokenizer: Tokenizer
    template: Any
    special_ids: frozenset[int]
    special_labels: Mapping[int, str]  # labels of ids that a template adds to the vocabulary
    start_id: int | None = None

    @property
    def n_layers(self) -> int:
        if isinstance(self.model, EncoderDecoder):
            return max(len(stack.layers) for stack in (self.model.encoder, self.model.decoder))
        return len(self.model.stack.layers)

    @property
    def n_heads(self) -> int:
        return max(
            layer.n_heads if isinstance(layer, MultiHeadAttention) else 1 for layer in attention_layers(self.model)
        )

    @property
    def description(self) -> str:
        """The model in one line."""
        layers, heads = (
            f"{n} {noun}{'s' * (n != 1)}" for n, noun in ((self.n_layers, "layer"), (self.n_heads, "head"))
        )
        return f"{self.name}: {layers} of {heads}, {self.model.d_model} wide."


def inspect_model(name: str, model: Any, tokenizer: Tokenizer, template: Any, *, is_causal_lm: bool) -> InspectedModel:
    """Prepare a model for inspection. A causal language model reads text without the template's special tokens.

    Raises ConfigurationError for a model without attention.
    """
    if not isinstance(model, Backbone | EncoderDecoder) or not attention_layers(model):
        raise ConfigurationError(f"{name}: no layer of this model has attention, so there is nothing to show")
    template_labels = template.special_token_labels
    added = {index for index, token in tokenizer.hf_tokenizer.get_added_tokens_decoder().items() if token.special}
    return InspectedModel(
        name,
        model.eval(),
        tokenizer,
        None if is_causal_lm else template,
        frozenset(added | template_labels.keys()),
        {index: label for index, label in template_labels.items() if index >= tokenizer.vocab_size},
        _start_id(model, template) if is_causal_lm else None,
    )


def _start_id(model: Backbone | EncoderDecoder, template: Any) -> int | None:
    """The token that ends documents, where the template has one and the model an embedding for it."""
    end: int | None = getattr(template, "end_of_text_id", None)
    return end if end is not None and end < model.embeddings.token.num_embeddings else None


def attention_panels(inspected: InspectedModel, texts: Sequence[TokenizedText], layers: Sequence[int]) -> list[Panel]:
    """Panels of one text, or of a source and its target, for the layers numbered from 1.

    Raises ConfigurationError where none of the layers has attention.
    """
    if isinstance(inspected.model, EncoderDecoder):
        panels = panels_of_encoder_decoder(inspected.model, texts[0], texts[1], layers)
    else:
        panels = panels_of_backbone(inspected.model, texts[0], layers)
    if not panels:
        raise ConfigurationError(f"layers {','.join(map(str, layers))}: none of these has attention; choose others")
    return panels


def check_page_size(layers: int, heads: int, *tokens: int) -> None:
    """Raise ConfigurationError for more weights than a page holds: of each text to itself, and of one text to another, in
    every head and in the rollout."""
    size = layers * (heads + 1) * sum(a * b for a, b in combinations_with_replacement(tokens, 2))
    if size > MAX_WEIGHTS:
        lengths = " and ".join(map(str, tokens))
        raise ConfigurationError(
            f"{layers} layers of {heads} heads over {lengths} tokens, and their rollout, are {size / 2**20:.0f} MB of "
            f"weights; a page holds {MAX_WEIGHTS / 2**20:.0f}: use a shorter text or fewer layers"
        )


def decoded_text(inspected: InspectedModel, text: TokenizedText) -> str:
    """The text of a sequence, without special tokens and padding."""
    ids = [index for index, token in zip(text.ids.tolist(), text.tokens, strict=True) if not token.special]
    return inspected.tokenizer.decode(ids)


def tokenized_text(
    inspected: InspectedModel, ids: Sequence[int], segments: Sequence[int], padding: int
) -> TokenizedText:
    """Token ids with their labels, followed by `padding` padding tokens."""
    labels = token_labels(inspected.tokenizer, ids)
    tokens = [
        Token(inspected.special_labels.get(index, label), index in inspected.special_ids, segment=segment)
        for index, label, segment in zip(ids, labels, segments, strict=True)
    ]
    pad_id = 0 if inspected.template is None else inspected.template.pad_id
    return TokenizedText(
        torch.tensor([*ids, *[pad_id] * padding]),
        [*tokens, *[Token("[PAD]", special=True, padding=True)] * padding],
        torch.tensor([*segments, *[0] * padding]),
    )
