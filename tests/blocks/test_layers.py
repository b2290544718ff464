"""Layers and stacks against torch's own, positions against the paper's formula, dropout and initialisers by statistics."""

import math

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from protoformer.blocks import init
from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.dropout import Dropout
from protoformer.blocks.embeddings import Embeddings
from protoformer.blocks.feed_forward import FeedForward
from protoformer.blocks.layers import DecoderLayer, EncoderLayer
from protoformer.blocks.packing import Packing, Rectangle
from protoformer.blocks.positions import LearnedPositions, SinusoidalPositions, sinusoids
from protoformer.blocks.stacks import DecoderStack, EncoderStack

D, H, FF, B, S = 16, 4, 32, 2, 7


def copy_attention(source: nn.MultiheadAttention, target: MultiHeadAttention) -> None:
    weight, bias = source.in_proj_weight.data, source.in_proj_bias.data
    if target.cross:
        target.query.weight.data, target.query.bias.data = weight[:D], bias[:D]
        target.key_value.weight.data, target.key_value.bias.data = weight[D:], bias[D:]
    else:
        target.qkv.weight.data, target.qkv.bias.data = weight, bias
    target.output.load_state_dict(source.out_proj.state_dict())


def copy_feed_forward(source: nn.Module, target: FeedForward) -> None:
    target.inner.load_state_dict(source.linear1.state_dict())
    target.outer.load_state_dict(source.linear2.state_dict())


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_layer_equals_torch(norm: str, activation: str) -> None:
    theirs = nn.TransformerEncoderLayer(D, H, FF, 0.0, activation, batch_first=True, norm_first=norm == "pre")
    ours = EncoderLayer(MultiHeadAttention(D, H), FeedForward(D, FF, activation), d_model=D, norm=norm)
    copy_attention(theirs.self_attn, ours.attention)
    copy_feed_forward(theirs, ours.feed_forward)
    for own, other in ((ours.attention_norm, theirs.norm1), (ours.feed_forward_norm, theirs.norm2)):
        nn.init.normal_(other.weight)
        own.load_state_dict(other.state_dict())
    x = torch.randn(B, S, D)
    torch.testing.assert_close(ours(x, Rectangle(B, S)), theirs(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_decoder_layer_equals_torch(norm: str) -> None:
    theirs = nn.TransformerDecoderLayer(D, H, FF, 0.0, batch_first=True, norm_first=norm == "pre")
    ours = DecoderLayer(
        MultiHeadAttention(D, H, causal=True),
        MultiHeadAttention(D, H, cross=True),
        FeedForward(D, FF),
        d_model=D,
        norm=norm,
    )
    copy_attention(theirs.self_attn, ours.attention)
    copy_attention(theirs.multihead_attn, ours.cross_attention)
    copy_feed_forward(theirs, ours.feed_forward)
    x, memory = torch.randn(B, S, D), torch.randn(B, 5, D)
    mask = nn.Transformer.generate_square_subsequent_mask(S)
    expected = theirs(x, memory, tgt_mask=mask)
    stack = DecoderStack([ours])
    torch.testing.assert_close(stack(x, Rectangle(B, S), memory, Rectangle(B, 5)), expected, atol=1e-5, rtol=1e-5)


def test_stack_gives_weights_of_the_named_layers_alone() -> None:
    layers = [EncoderLayer(MultiHeadAttention(D, H), FeedForward(D, FF), d_model=D) for _ in range(3)]
    stack = EncoderStack(layers, final_norm=nn.LayerNorm(D)).eval()
    x, layout = torch.randn(B * S, D), Packing(torch.ones(B, S, dtype=torch.bool))
    weights: dict[int, torch.Tensor] = {}
    plain = stack(x, layout)
    torch.testing.assert_close(stack(x, layout, weights, [1]), plain, atol=1e-5, rtol=1e-5)
    assert list(weights) == [1]
    assert weights[1].shape == (B, H, S, S)
    torch.testing.assert_close(weights[1].sum(-1), torch.ones(B, H, S))


@pytest.mark.parametrize("make", [EncoderLayer, DecoderLayer])
def test_unknown_norm_is_refused(make: type) -> None:
    parts = (MultiHeadAttention(D, H),) if make is EncoderLayer else (MultiHeadAttention(D, H), None)
    with pytest.raises((ValueError, TypeCheckError), match=r"pre.*post"):
        make(*parts, FeedForward(D, FF), d_model=D, norm="pree")


def test_sinusoids_are_the_papers_formula() -> None:
    table = sinusoids(50, 6)
    for position in (0, 1, 49):
        for i in range(3):
            angle = position / 10000 ** (2 * i / 6)
            assert table[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
    halves = sinusoids(50, 6, "halves")
    torch.testing.assert_close(halves, torch.cat([table[:, 0::2], table[:, 1::2]], 1))
    assert SinusoidalPositions(9, 6).state_dict() == {}


def test_embeddings_sum_scale_and_default_segment() -> None:
    embeddings = Embeddings(10, D, LearnedPositions(S, D), n_segments=2, scaled=True)
    ids = torch.randint(10, (B, S))
    position = torch.arange(S)[None]
    expected = embeddings.token.weight[ids] * D**0.5 + embeddings.position.weight + embeddings.segment.weight[0]
    torch.testing.assert_close(embeddings(ids, position), expected)
    segments = torch.ones(B, S, dtype=torch.long)
    assert not torch.equal(embeddings(ids, position, segments), expected)


def test_layouts_place_and_find_tokens() -> None:
    mask = torch.tensor([[True, True, False], [True, True, True]])
    packing, rectangle = Packing(mask), Rectangle(2, 3, mask)
    x = torch.randn(2, 3, 4)
    assert packing.positions(x.device).tolist() == [0, 1, 0, 1, 2]
    torch.testing.assert_close(packing.unpack(packing.pack(x)), x * mask[..., None])
    position = torch.tensor([1, 2])
    torch.testing.assert_close(packing.at(packing.pack(x), position), rectangle.at(x, position))
    front = mask.flip(1)
    assert Rectangle(2, 3, front).positions(x.device).tolist() == [[0, 0, 1], [0, 1, 2]]
    assert Packing(front).positions(x.device).tolist() == [0, 1, 0, 1, 2]


def test_dropout_keeps_the_mean_and_the_share() -> None:
    dropout = Dropout(0.1)
    out = dropout(torch.ones(1000, 1001))
    dropped = (out == 0).float().mean().item()
    assert dropped == pytest.approx(0.1, abs=0.002)
    assert out.mean().item() == pytest.approx(1.0, abs=0.002)
    rows = (out == 0).float()
    neighbours = torch.corrcoef(torch.stack([rows[:, :-1].flatten(), rows[:, 1:].flatten()]))[0, 1].item()
    assert abs(neighbours) < 0.005
    assert dropout.eval()(torch.ones(3)).tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="below 1"):
        Dropout(1.0)


def test_initialisers_by_their_statistics() -> None:
    part = nn.Sequential(nn.Linear(200, 300), nn.LayerNorm(300), nn.Embedding(100, 64))
    init.bert(part)
    assert part[0].weight.std().item() == pytest.approx(0.02 * 0.8796, rel=0.02)  # deviation of a normal cut at two
    assert part[0].weight.abs().max().item() <= 0.04
    assert part[0].bias.abs().max().item() == 0
    init.gpt(part)
    assert part[0].weight.std().item() == pytest.approx(0.02, rel=0.02)
    init.scale_residual([part[0]], n_layers=8)
    assert part[0].weight.std().item() == pytest.approx(0.02 / 4, rel=0.02)
    init.transformer(part)
    assert part[0].weight.std().item() == pytest.approx((2 / 500) ** 0.5, rel=0.02)
    assert part[2].weight.std().item() == pytest.approx(64**-0.5, rel=0.03)
