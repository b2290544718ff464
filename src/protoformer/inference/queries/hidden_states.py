"""Hidden states and attention weights of a text, layer by layer: for notebooks."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from protoformer.blocks.kernels.packing import HiddenStates
from protoformer.errors import ConfigurationError
from protoformer.inference.opening.opened import OpenedModel
from protoformer.interventions.activations import Activations, kept
from protoformer.models.backbone import Backbone
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.views.token_labels import token_labels


@dataclass(frozen=True)
class EncodedText:
    """One text (or pair) as the model reads it. There is no padding in it, so every row is that of a token.

    `hidden_states[0]` is the sum of the embeddings that the first layer reads, `hidden_states[i]` the output of layer i; the
    last one has passed the final normalisation of a pre-norm model, and is what heads read. `attention[i - 1, h]` holds the
    weights of head h of layer i: row q is the distribution over the tokens that token q attends to. None: a model without
    attention.
    """

    tokens: list[str]
    ids: Int[Tensor, "seq"]
    segment_ids: Int[Tensor, "seq"]
    hidden_states: Float[Tensor, "layers_1 seq d_model"]
    attention: Float[Tensor, "layers heads seq seq"] | None

    @property
    def last_hidden_state(self) -> Float[Tensor, "seq d_model"]:
        return self.hidden_states[-1]

    def __repr__(self) -> str:
        shapes = f"hidden_states={tuple(self.hidden_states.shape)}"
        attention = None if self.attention is None else tuple(self.attention.shape)
        return f"{type(self).__name__}(tokens={self.tokens}, {shapes}, attention={attention})"


def encode_text(opened: OpenedModel, text: str, pair: str | None = None) -> EncodedText:
    """The hidden states of a text, or of a pair; of an encoder-decoder those of its encoder.

    Texts that are too long are truncated as in training. Raises ConfigurationError for a text without tokens (special ones do
    not count), and for a pair where the model reads single texts.
    """
    ids, segment_ids = _ids(opened, text, pair)
    backbone = opened.model.backbone
    stack = backbone.encoder if isinstance(backbone, EncoderDecoder) else backbone.stack
    device = next(backbone.parameters()).device
    batch, segments = torch.tensor([ids], device=device), torch.tensor([segment_ids], device=device)
    states: list[Tensor] = []
    with torch.inference_mode(), unchanged_mode(backbone), _collected(stack, states):
        hidden = _forward(backbone, batch, segments, len(stack.layers))
    # the output of the last layer, normalised where the stack ends with a normalisation
    states[-1] = hidden.to_padded()[0]
    weights = [hidden.attn_weights[index][0].float().cpu() for index in sorted(hidden.attn_weights)]
    return EncodedText(
        _labels(opened, ids),
        batch[0].cpu(),
        segments[0].cpu(),
        torch.stack([state.float().cpu() for state in states]).clone(),
        torch.stack(weights).clone() if weights else None,
    )


def cache_text(opened: OpenedModel, text: str, pair: str | None = None) -> Activations:
    """Named activations of a text, or of a pair; of an encoder-decoder those of its encoder. Errors are those of
    `encode_text`."""
    if not isinstance(text, str):
        raise TypeError(f"a {type(text).__name__}, where one text was expected: cache(text, pair)")
    ids, segment_ids = _ids(opened, text, pair)
    backbone = opened.model.backbone
    device = next(backbone.parameters()).device
    values: dict[str, Tensor] = {}
    with (
        torch.no_grad(),
        unchanged_mode(backbone),
        kept(backbone, values),
    ):  # not inference mode: users compute on with them
        _forward(backbone, torch.tensor([ids], device=device), torch.tensor([segment_ids], device=device), 0)
    return Activations(values, _labels(opened, ids))


@contextmanager
def unchanged_mode(backbone: nn.Module) -> Iterator[None]:
    """Within the block the model is in evaluation mode; after it in the mode that it was in."""
    was_training = backbone.training
    backbone.eval()
    try:
        yield
    finally:
        backbone.train(was_training)


def _ids(opened: OpenedModel, text: str, pair: str | None) -> tuple[list[int], list[int]]:
    """Ids and segments of a text with the special tokens that the model was trained with."""
    (a,), template = opened.tokenizer.encode([text]), opened.template()
    b = None if pair is None else opened.tokenizer.encode([pair])
    for given, encoded in ((text, a), (pair, b[0] if b else None)):
        if encoded is not None and not encoded:
            raise ConfigurationError(f"{given!r}: there is no token in it")
    if opened.model.is_causal_lm or isinstance(opened.model.backbone, EncoderDecoder):
        if b is not None:
            raise ConfigurationError("this model reads a single text; leave the pair out")
        ids = a[: opened.max_len]
        if isinstance(opened.model.backbone, EncoderDecoder):
            ids = [*a[: opened.max_len - 1], template.eos_id]
        return ids, [0] * len(ids)
    encoded = template.encode_texts([a], b, opened.max_len)
    return encoded.ids.tolist(), encoded.segment_ids.tolist()


def _forward(backbone: Backbone | EncoderDecoder, ids: Tensor, segments: Tensor, n_layers: int) -> HiddenStates:
    mask = torch.ones_like(ids, dtype=torch.bool)
    # forward and not __call__: a model that is compiled in place would be compiled again for this one call
    if isinstance(backbone, EncoderDecoder):
        return backbone.encode(ids, mask, range(n_layers))
    return backbone.forward(ids, mask, segments, range(n_layers))


@contextmanager
def _collected(stack: nn.Module, states: list[Tensor]) -> Iterator[None]:
    """Append the input of a stack and the output of each of its layers, `(seq, d_model)` each."""

    def add(value: Any) -> None:
        tokens = value[0] if isinstance(value, tuple) else value
        states.append(tokens.reshape(-1, tokens.shape[-1]))  # of one text without padding, packed or not

    def on_input(_: nn.Module, arguments: tuple[object, ...]) -> None:
        add(arguments[0])

    def on_output(_: nn.Module, __: object, output: object) -> None:
        add(output)

    with ExitStack() as hooks:
        hooks.callback(stack.register_forward_pre_hook(on_input).remove)
        for layer in stack.layers:  # type: ignore[union-attr]  # every stack has them
            hooks.callback(layer.register_forward_hook(on_output).remove)
        yield


def _labels(opened: OpenedModel, ids: list[int]) -> list[str]:
    """A label for each id; special tokens that the template adds to the vocabulary have their own."""
    special: dict[int, str] = opened.template().special_token_labels
    labels = token_labels(opened.tokenizer, ids)
    size = opened.tokenizer.vocab_size
    return [special.get(index, label) if index >= size else label for index, label in zip(ids, labels, strict=True)]
