"""Panels hold the weights that the model used, and say exactly where its masks let it look."""

from typing import Literal

import pytest
import torch
from torch import Tensor

from protoformer.blocks.attention import MultiHeadAttention
from protoformer.models.backbone import Backbone
from protoformer.models.bert import bert
from protoformer.models.cnn import cnn
from protoformer.models.gpt import gpt
from protoformer.models.rnn import rnn
from protoformer.models.transformer import transformer
from protoformer.views.panels import (
    Panel,
    Token,
    TokenizedText,
    attention_layers,
    panels_of_backbone,
    panels_of_encoder_decoder,
)

SIZES = {"vocab_size": 50, "d_model": 32, "n_layers": 3, "n_heads": 4, "d_ff": 48}


def text(real: int, padding: int = 2) -> TokenizedText:
    tokens = [Token(f"w{place}", special=place == 0) for place in range(real)]
    return TokenizedText(torch.randint(0, 50, (real + padding,)), [*tokens, *[Token("[PAD]", padding=True)] * padding])


def causal(seq: int, window: int | None = None) -> Tensor:
    """By its definition: which of the keys a query may see."""
    sees = [[j <= i and (window is None or i - j < window) for j in range(seq)] for i in range(seq)]
    return torch.tensor(sees)


def checked(panel: Panel, queries: int, keys: int) -> None:
    """Rows of tokens sum to one, over what is allowed alone, and all of that gets something."""
    real = panel.weights[:, :, :queries]
    torch.testing.assert_close(real.sum(-1), torch.ones(real.shape[:3]))
    allowed = panel.allowed[:, None, :queries].expand_as(real)
    assert (real[~allowed] == 0).all()
    assert (real[allowed] > 0).all()
    assert not panel.allowed[..., keys:].any()  # padding
    assert torch.equal(panel.visible[:, :queries], panel.allowed[:, :queries])
    assert not panel.visible[:, queries:].any()


def test_an_encoder_masks_padding_alone() -> None:
    model = bert(**SIZES).eval()
    (panel,) = panels_of_backbone(model, text(7), [1, 2, 3])
    assert (panel.name, panel.layers) == ("encoder self-attention", [1, 2, 3])
    assert panel.weights.shape == (3, 4, 9, 9)
    assert panel.allowed[:, :, :7].all()
    checked(panel, 7, 7)


def test_a_decoder_masks_what_comes_later_and_its_bands() -> None:
    model = gpt(**SIZES, attention=["dense", "banded"], band=3).eval()
    (panel,) = panels_of_backbone(model, text(7), [1, 2, 3])
    assert panel.name == "decoder self-attention"
    for layer, window in enumerate((None, 3, None)):
        assert torch.equal(panel.allowed[layer, :, :7], causal(9, window)[:, :7])
    checked(panel, 7, 7)


def test_some_layers_are_those_layers() -> None:
    model, words = gpt(**SIZES, attention=["dense", "banded"], band=2).eval(), text(6)
    (every,) = panels_of_backbone(model, words, [1, 2, 3])
    (some,) = panels_of_backbone(model, words, [2, 3])
    assert some.layers == [2, 3]
    torch.testing.assert_close(some.weights, every.weights[1:])
    assert torch.equal(some.allowed, every.allowed[1:])


@pytest.mark.parametrize("model", [bert(**SIZES), gpt(**SIZES)], ids=["bert", "gpt"])
def test_padding_changes_no_weight_and_no_number(model: Backbone) -> None:
    with_padding = text(6, padding=4)
    without = TokenizedText(with_padding.ids[:6], with_padding.tokens[:6])
    (longer,), (shorter,) = (panels_of_backbone(model.eval(), one, [1, 3]) for one in (with_padding, without))
    torch.testing.assert_close(longer.weights[..., :6, :6], shorter.weights)
    for ours, theirs in zip(longer.statistics(), shorter.statistics(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_weights_are_those_of_the_formula() -> None:
    """softmax(Q K^T / sqrt(d_head)) of the first layer, from its own matrices."""
    model, words = bert(**SIZES).eval(), text(5, padding=0)
    (panel,) = panels_of_backbone(model, words, [1])
    first = attention_layers(model.stack)[0]
    with torch.no_grad():
        x = model.embeddings(words.ids[None], torch.arange(5)[None], torch.zeros(1, 5, dtype=torch.long))[0]
        q, k, _ = first.qkv(x).view(5, 3, 4, 8).unbind(1)
    for head in range(4):
        expected = (q[:, head] @ k[:, head].T / 8**0.5).softmax(-1)
        torch.testing.assert_close(panel.weights[0, head], expected)


def test_an_encoder_decoder_is_three_panels() -> None:
    model = transformer(**SIZES, n_decoder_layers=2).eval()
    source, target = text(6, padding=3), text(4, padding=1)
    reads, writes, looks = panels_of_encoder_decoder(model, source, target, [1, 2, 3])
    assert [panel.cross_attention for panel in (reads, writes, looks)] == [False, False, True]
    assert (reads.layers, writes.layers, looks.layers) == ([1, 2, 3], [1, 2], [1, 2])
    assert looks.weights.shape == (2, 4, 5, 9)
    assert (looks.queries, looks.keys) == (target.tokens, source.tokens)
    assert looks.allowed[..., :6].all()
    assert torch.equal(writes.allowed[0, :, :4], causal(5)[:, :4])
    for panel, queries, keys in ((reads, 6, 6), (writes, 4, 4), (looks, 4, 6)):
        checked(panel, queries, keys)
    (other,) = panels_of_encoder_decoder(model, source, target, [3])  # which the decoder does not have
    torch.testing.assert_close(other.weights[0], reads.weights[2])  # by the fast kernel below


def test_what_attends_is_found() -> None:
    assert len(attention_layers(transformer(**SIZES).decoder)) == 6  # over the target and over the source
    assert all(isinstance(part, MultiHeadAttention) for part in attention_layers(bert(**SIZES)))
    assert attention_layers(torch.nn.LSTM(3, 3)) == []


@pytest.mark.parametrize("attention", ["bahdanau", "luong"])
def test_a_recurrent_translator_shows_what_it_looks_at(attention: Literal["bahdanau", "luong"]) -> None:
    model = rnn(vocab_size=50, d_model=16, n_layers=2, architecture="encoder_decoder", attention=attention).eval()
    (panel,) = panels_of_encoder_decoder(model, text(6, padding=3), text(4, padding=1), [1, 2])
    assert (panel.name, panel.cross_attention) == ("attention to the source", True)
    assert panel.layers == [1 if attention == "bahdanau" else 2]
    assert panel.weights.shape == (1, 1, 5, 9)
    checked(panel, 4, 6)
    assert panels_of_encoder_decoder(model, text(6), text(4), [2 if attention == "bahdanau" else 1]) == []


def test_each_layer_of_a_convolutional_translator_looks() -> None:
    model = cnn(vocab_size=50, d_model=16, n_layers=2, architecture="encoder_decoder").eval()
    (panel,) = panels_of_encoder_decoder(model, text(6, padding=3), text(4, padding=1), [1, 2])
    assert panel.layers == [1, 2]
    checked(panel, 4, 6)
