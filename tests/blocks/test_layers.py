"""Layers and stacks against torch's own, positions against the paper's formula, dropout and initialisers by statistics."""

import inspect
import math

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from protoformer.blocks import init
from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.embeddings import Embeddings
from protoformer.blocks.feed_forward import FeedForward
from protoformer.blocks.kernels.cache import KeyValueCache
from protoformer.blocks.kernels.dropout import Dropout
from protoformer.blocks.kernels.packing import HiddenStates, PackedLayout, PaddedLayout
from protoformer.blocks.layers import DecoderLayer, EncoderLayer
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
    torch.testing.assert_close(ours(x, PaddedLayout(B, S))[0], theirs(x), atol=1e-5, rtol=1e-5)


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
    torch.testing.assert_close(
        stack(x, PaddedLayout(B, S), memory, PaddedLayout(B, 5)).tokens, expected, atol=1e-5, rtol=1e-5
    )


def test_stack_returns_weights_of_the_named_layers_alone() -> None:
    layers = [EncoderLayer(MultiHeadAttention(D, H), FeedForward(D, FF), d_model=D) for _ in range(3)]
    stack = EncoderStack(layers, final_norm=nn.LayerNorm(D)).eval()
    x, layout = torch.randn(B * S, D), PackedLayout(torch.ones(B, S, dtype=torch.bool))
    plain, hidden = stack(x, layout), stack(x, layout, [1])
    torch.testing.assert_close(hidden.tokens, plain.tokens, atol=1e-5, rtol=1e-5)
    assert plain.attn_weights == {}
    assert list(hidden.attn_weights) == [1]
    assert hidden.attn_weights[1].shape == (B, H, S, S)
    torch.testing.assert_close(hidden.attn_weights[1].sum(-1), torch.ones(B, H, S))


def decoder(norm: str = "post", cross: bool = True, layers: int = 3) -> DecoderStack:
    def layer() -> DecoderLayer:
        over = MultiHeadAttention(D, H, cross=True) if cross else None
        return DecoderLayer(MultiHeadAttention(D, H, causal=True), over, FeedForward(D, FF), d_model=D, norm=norm)

    return DecoderStack([layer() for _ in range(layers)], nn.LayerNorm(D) if norm == "pre" else None).eval()


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("packed", [False, True])
def test_decoder_returns_weights_of_the_named_layers_alone(
    packed: bool, norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = decoder(norm)
    real, sources = (
        torch.arange(n)[None] < torch.tensor(lengths)[:, None] for n, lengths in ((S, [S, 4]), (5, [2, 5]))
    )
    x, memory = torch.randn(B, S, D), torch.randn(B, 5, D)
    layout, keys = (
        (PackedLayout(real), PackedLayout(sources))
        if packed
        else (PaddedLayout(B, S, real), PaddedLayout(B, 5, sources))
    )
    inputs = (layout.pack(x), layout, keys.pack(memory), keys)
    requested: list[bool] = []
    attend = MultiHeadAttention.forward

    def recorded(self: MultiHeadAttention, *args: object, **named: object) -> torch.Tensor:
        arguments = inspect.signature(attend).bind(self, *args, **named).arguments
        requested.append(arguments.get("need_weights", False))
        return attend(self, *args, **named)

    plain = stack(*inputs).tokens
    monkeypatch.setattr(MultiHeadAttention, "forward", recorded)
    out = stack(*inputs, attn_layers=[0, 2])
    torch.testing.assert_close(layout.unpack(out.tokens)[real], layout.unpack(plain)[real], atol=1e-5, rtol=1e-5)
    assert requested == [True, True, False, False, True, True]
    assert list(out.attn_weights) == list(out.cross_attn_weights) == [0, 2]
    own_pattern = torch.ones(S, S, dtype=torch.bool).tril() & real[:, None, :]
    for number in (0, 2):
        for weights, allowed in (
            (out.attn_weights, own_pattern),
            (out.cross_attn_weights, sources[:, None, :].expand(B, S, 5)),
        ):
            probs = weights[number].transpose(1, 2)[real]  # a real query each, heads, keys
            assert (probs.masked_select(~allowed[real][:, None].expand_as(probs)) == 0).all()
            torch.testing.assert_close(probs.sum(-1), torch.ones(int(real.sum()), H))


@pytest.mark.parametrize("side", ["front", "back"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_decoder_steps_with_learned_positions_equal_one_pass(norm: str, side: str) -> None:
    """Prompts of unequal length, padded at either side, then tokens one by one: as if each row had been read at once."""
    prompts, more, width = [5, 2, 3], 4, 5
    embeddings = Embeddings(20, D, LearnedPositions(width + more, D)).eval()
    stack = decoder(norm, cross=False, layers=2)
    rows = [torch.randint(20, (1, n + more)) for n in prompts]
    whole = [
        stack(embeddings(ids, layout.positions(ids.device)), layout).tokens[0]
        for ids in rows
        for layout in [PaddedLayout(*ids.shape)]
    ]

    lengths = torch.tensor(prompts)
    real = torch.arange(width)[None] < lengths[:, None]
    real = real.flip(1) if side == "front" else real
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    ids[real] = torch.cat([row[0, :n] for row, n in zip(rows, prompts, strict=True)])
    caches = [KeyValueCache(len(rows), H, width + more, (D // H,) * 2) for _ in stack.layers]

    def read(step: torch.Tensor, layout: PaddedLayout) -> torch.Tensor:
        return stack(embeddings(step, layout.positions(step.device)), layout, caches=caches).tokens

    first = read(ids, PaddedLayout(len(rows), width, real))
    torch.testing.assert_close(
        first[real], torch.cat([out[:n] for out, n in zip(whole, prompts, strict=True)]), atol=1e-5, rtol=1e-5
    )
    for i in range(more):
        tokens = torch.stack([row[0, n + i : n + i + 1] for row, n in zip(rows, prompts, strict=True)])
        step = read(tokens, PaddedLayout(len(rows), 1, offset=lengths + i))
        expected = torch.stack([out[n + i : n + i + 1] for out, n in zip(whole, prompts, strict=True)])
        torch.testing.assert_close(step, expected, atol=1e-5, rtol=1e-5)


def test_decoder_steps_of_equal_rows_take_one_first_position() -> None:
    embeddings, stack = Embeddings(20, D, LearnedPositions(S, D)).eval(), decoder(cross=False)
    ids, layout = torch.randint(20, (B, S)), PaddedLayout(B, S)
    whole = stack(embeddings(ids, layout.positions(ids.device)), layout).tokens
    caches = [KeyValueCache(B, H, S, (D // H,) * 2) for _ in stack.layers]
    steps = []
    for start, end in ((0, 3), (3, 4), (4, S)):
        layout = PaddedLayout(B, end - start, offset=start)
        steps.append(stack(embeddings(ids[:, start:end], layout.positions(ids.device)), layout, caches=caches).tokens)
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_steps_with_keys_narrower_than_values() -> None:
    layers = [
        DecoderLayer(MultiHeadAttention(D, H, d_key=3, causal=True), None, FeedForward(D, FF), d_model=D) for _ in "ab"
    ]
    stack, x = DecoderStack(layers).eval(), torch.randn(B, S, D)
    assert stack.supports_fast_decode(x.device)
    caches = [layer.attention.init_cache(B, S, x) for layer in layers]
    steps = [stack.decode_step(x[:, i], torch.full((B,), i), caches) for i in range(S)]
    torch.testing.assert_close(torch.stack(steps, 1), stack(x, PaddedLayout(B, S)).tokens, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh", "swish"])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("rows", [2, 6])
def test_decode_step_equals_forward(norm: str, activation: str, window: int | None, padded: bool, rows: int) -> None:
    """For every option of the layers, with so few rows that the product is not transposed, and with more."""

    def layer() -> DecoderLayer:
        attention = MultiHeadAttention(D, H, d_head=3, d_key=5, dropout=0.5, causal=True, window=window)
        return DecoderLayer(attention, None, FeedForward(D, FF, activation), d_model=D, norm=norm, dropout=0.5)

    stack, x = DecoderStack([layer(), layer()], nn.LayerNorm(D)).eval(), torch.randn(rows, S, D)
    real = torch.arange(4)[None] >= torch.arange(rows)[:, None] % 3 if padded else torch.ones(rows, 4, dtype=torch.bool)
    both = stack.init_caches(rows, S, x), stack.init_caches(rows, S, x)
    for caches in both:
        stack(x[:, :4], PaddedLayout(rows, 4, real if padded else None), caches=caches)
    for i in range(4, S):
        assert stack.supports_fast_decode(x.device)
        position = real.sum(1) + i - 4
        fast = stack.decode_step(x[:, i], position, both[0])
        slow = stack(x[:, i : i + 1], PaddedLayout(rows, 1, offset=position), caches=both[1]).tokens[:, 0]
        torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)


class ShiftedAttention(MultiHeadAttention):
    """Another function than its parent's."""

    def forward(self, *args: object, **named: object) -> tuple[torch.Tensor, torch.Tensor | None]:
        out, attn_weights = super().forward(*args, **named)
        return out + 1.0, attn_weights


class ShiftedFeedForward(FeedForward):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 1.0


class PlainFeedForward(nn.Module):
    """A layer that has never heard of decoding."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.tanh()


class ShiftedLayer(DecoderLayer):
    def forward(self, *args: object, **named: object) -> tuple:
        x, *weights = super().forward(*args, **named)
        return (x + 1.0, *weights)


class ShiftedStack(DecoderStack):
    def forward(self, *args: object, **named: object) -> HiddenStates:
        hidden = super().forward(*args, **named)
        return hidden._replace(tokens=hidden.tokens + 1.0)


@torch.no_grad()
@pytest.mark.parametrize("changed", ["attention", "feed_forward", "plain", "layer", "stack", "cross"])
def test_fast_decoding_is_refused_where_a_subclass_changes_forward(changed: str) -> None:
    """Inherited `decode_step`s would leave the change out; nothing is skipped silently."""
    attention = (ShiftedAttention if changed == "attention" else MultiHeadAttention)(D, H, causal=True)
    cross = MultiHeadAttention(D, H, cross=True) if changed == "cross" else None
    feed_forward = {"feed_forward": ShiftedFeedForward(D, FF), "plain": PlainFeedForward()}.get(
        changed, FeedForward(D, FF)
    )
    layer = (ShiftedLayer if changed == "layer" else DecoderLayer)(attention, cross, feed_forward, d_model=D)
    stack = (ShiftedStack if changed == "stack" else DecoderStack)([layer]).eval()
    assert not stack.supports_fast_decode(torch.device("cpu"))
    assert decoder(cross=False).supports_fast_decode(torch.device("cpu"))


@torch.no_grad()
def test_decode_step_calls_what_was_put_in_the_place_of_a_linear_layer() -> None:
    class Doubled(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2.0 * super().forward(x)

    stack, x = decoder(cross=False, layers=1), torch.randn(6, D)
    layer = stack.layers[0]
    layer.attention.qkv, layer.feed_forward.outer = Doubled(D, 3 * D), Doubled(FF, D)
    fast = stack.decode_step(x, torch.zeros(6, dtype=torch.long), stack.init_caches(6, 1, x))
    slow = stack(x[:, None], PaddedLayout(6, 1), caches=stack.init_caches(6, 1, x)).tokens[:, 0]
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)


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
    embeddings = Embeddings(10, D, LearnedPositions(S, D), n_segments=2, scale_by_sqrt_d_model=True)
    ids = torch.randint(10, (B, S))
    position = torch.arange(S)[None]
    expected = embeddings.token.weight[ids] * D**0.5 + embeddings.position.weight + embeddings.segment.weight[0]
    torch.testing.assert_close(embeddings(ids, position), expected)
    segments = torch.ones(B, S, dtype=torch.long)
    assert not torch.equal(embeddings(ids, position, segments), expected)


def test_layouts_pack_and_gather_tokens() -> None:
    mask = torch.tensor([[True, True, False], [True, True, True]])
    packing, rectangle = PackedLayout(mask), PaddedLayout(2, 3, mask)
    x = torch.randn(2, 3, 4)
    assert packing.positions(x.device).tolist() == [0, 1, 0, 1, 2]
    torch.testing.assert_close(packing.unpack(packing.pack(x)), x * mask[..., None])
    position = torch.tensor([1, 2])
    torch.testing.assert_close(
        HiddenStates(packing.pack(x), packing).at(position), HiddenStates(x, rectangle).at(position)
    )
    front = mask.flip(1)
    assert PaddedLayout(2, 3, front).positions(x.device).tolist() == [[0, 0, 1], [0, 1, 2]]
    assert PackedLayout(front).positions(x.device).tolist() == [0, 1, 0, 1, 2]
    assert PaddedLayout(2, 3, front, torch.tensor([4, 0])).positions(x.device).tolist() == [[4, 4, 5], [0, 1, 2]]
    assert PaddedLayout(2, 2, offset=7).positions(x.device).tolist() == [[7, 8]]


def test_dropout_keeps_mean_and_rate() -> None:
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


@pytest.mark.parametrize("half", [False, True])
def test_dropout_before_a_residual_sum(half: bool) -> None:
    """x + Dropout(sublayer), of the same draw, gradients too; a half sublayer leaves the stream in its own precision."""
    dropout, x = Dropout(0.25), torch.randn(50, 40, requires_grad=True)
    sublayer = torch.randn(50, 40, dtype=torch.bfloat16 if half else torch.float32, requires_grad=True)
    results = []
    for add in (dropout.add, lambda x, y: x + dropout(y)):
        torch.manual_seed(1)
        out = add(x, sublayer)
        results.append((out, *torch.autograd.grad(out.square().sum(), (x, sublayer))))
    assert results[0][0].dtype == torch.float32
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain)
    assert (results[0][0] == x).float().mean().item() == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(dropout.eval().add(x, sublayer), x + sublayer)


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


@pytest.mark.parametrize("cross", [False, True])
def test_glorot_takes_each_part_of_a_fused_matrix_by_itself(cross: bool) -> None:
    attention = MultiHeadAttention(256, 4, cross=cross)
    init.transformer(nn.Sequential(attention))
    fused = [*attention.key_value.weight.chunk(2), attention.query.weight] if cross else attention.qkv.weight.chunk(3)
    for matrix in [*fused, attention.output.weight]:
        assert matrix.shape == (256, 256)
        assert matrix.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)
        assert matrix.abs().max().item() <= (6 / 512) ** 0.5
    assert attention.output.weight.requires_grad
