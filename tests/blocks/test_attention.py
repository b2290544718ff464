"""Attention against the library's own multi-head attention, and the promises of masks, packing and caches."""

import math
import weakref

import pytest
import torch
from torch import nn

from protoformer.blocks import masks
from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.kernels import packed_attention
from protoformer.blocks.kernels.cache import KeyValueCache
from protoformer.blocks.kernels.packed_attention import (
    PackedAttentionFunction,
    attend_packed,
    attend_unpacked,
    attention_groups,
)
from protoformer.blocks.kernels.packing import PackedLayout, PaddedLayout

BATCH, SEQ, D_MODEL, HEADS = 3, 11, 24, 4
LENGTHS = torch.tensor([11, 4, 7])
PADDING = torch.arange(SEQ)[None] < LENGTHS[:, None]


def reference(
    attention: MultiHeadAttention, x: torch.Tensor, memory: torch.Tensor | None = None
) -> nn.MultiheadAttention:
    """torch's module with the same weights."""
    other = nn.MultiheadAttention(D_MODEL, HEADS, batch_first=True)
    if memory is None:
        other.in_proj_weight.data, other.in_proj_bias.data = attention.qkv.weight.data, attention.qkv.bias.data
    else:
        other.in_proj_weight.data = torch.cat([attention.query.weight.data, attention.key_value.weight.data])
        other.in_proj_bias.data = torch.cat([attention.query.bias.data, attention.key_value.bias.data])
    other.out_proj.load_state_dict(attention.output.state_dict())
    return other


def pattern(causal: bool, window: int | None) -> torch.Tensor:
    """The rule written out: True where a query may attend."""
    allowed = torch.ones(SEQ, SEQ, dtype=torch.bool)
    for query in range(SEQ):
        for key in range(SEQ):
            later, apart = key > query, abs(query - key)
            if causal:
                allowed[query, key] = not later and (window is None or apart < window)
            elif window is not None:
                allowed[query, key] = apart <= window
    return allowed


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("layout", ["rectangle", "packed", "tiled", "weights"])
def test_self_attention_equals_torch(
    causal: bool, window: int | None, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_attention, "TILE_SIZE", 3 if layout == "tiled" else 128)
    attention = MultiHeadAttention(D_MODEL, HEADS, causal=causal, window=window)
    x = torch.randn(BATCH, SEQ, D_MODEL)
    expected, expected_weights = reference(attention, x)(
        x, x, x, key_padding_mask=~PADDING, attn_mask=~pattern(causal, window), average_attn_weights=False
    )
    if layout in ("packed", "tiled"):
        packing = PackedLayout(PADDING)
        ours = packing.unpack(attention(packing.pack(x), packing)[0])
    else:
        rectangle = PaddedLayout(BATCH, SEQ, PADDING)
        ours, attn_weights = attention(x, rectangle, need_weights=layout == "weights")
    torch.testing.assert_close(ours[PADDING], expected[PADDING], atol=1e-6, rtol=1e-5)
    if layout == "weights":
        real = PADDING[:, None, :, None].expand_as(attn_weights)
        torch.testing.assert_close(attn_weights[real], expected_weights[real], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_cross_attention_equals_torch(packed: bool) -> None:
    attention = MultiHeadAttention(D_MODEL, HEADS, cross=True)
    x, memory = torch.randn(BATCH, 5, D_MODEL), torch.randn(BATCH, SEQ, D_MODEL)
    expected, _ = reference(attention, x, memory)(x, memory, memory, key_padding_mask=~PADDING)
    queries = torch.ones(BATCH, 5, dtype=torch.bool)
    layout, keys = (
        (PackedLayout(queries), PackedLayout(PADDING))
        if packed
        else (PaddedLayout(BATCH, 5), PaddedLayout(BATCH, SEQ, PADDING))
    )
    ours = layout.unpack(attention(layout.pack(x), layout, keys.pack(memory), keys)[0])
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("tile", [1, 4, 128])
@pytest.mark.parametrize("grouped", [0, 1 << 14])
@pytest.mark.parametrize(("causal", "window"), [(True, None), (True, 4), (False, 2), (False, None)])
def test_packed_gradients_equal_padded_ones(
    causal: bool, window: int | None, grouped: int, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_attention, "MAX_GROUPED_SIZE", grouped)
    monkeypatch.setattr(packed_attention, "TILE_SIZE", tile)
    attention = MultiHeadAttention(D_MODEL, HEADS, causal=causal, window=window)
    gradients = []
    for layout in (PackedLayout(PADDING), PaddedLayout(BATCH, SEQ, PADDING)):
        x = torch.linspace(-1, 1, BATCH * SEQ * D_MODEL).view(BATCH, SEQ, D_MODEL).requires_grad_()
        attention.zero_grad()
        out = layout.unpack(attention(layout.pack(x), layout)[0])
        (out[PADDING] ** 2).sum().backward()
        gradients.append([x.grad, *(p.grad.clone() for p in attention.parameters())])
    for packed, padded in zip(*gradients, strict=True):
        torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-5)


def test_one_query_layout_with_successive_memories() -> None:
    """Groups are kept by the memory's layout, not by its id, which the next one gets once the first is gone."""
    attention = MultiHeadAttention(D_MODEL, HEADS, cross=True)
    queries = PackedLayout(torch.ones(BATCH, 5, dtype=torch.bool))
    x, memory = torch.randn(BATCH * 5, D_MODEL), torch.randn(BATCH, SEQ, D_MODEL)
    for lengths in ([11, 4, 7], [3, 9, 2], [1, 1, 8], [5, 6, 11], [2, 10, 1]):
        keys = PackedLayout(torch.arange(SEQ)[None] < torch.tensor(lengths)[:, None])
        ours = attention(x, queries, keys.pack(memory), keys)[0]
        fresh = attention(x, PackedLayout(queries.padding_mask), keys.pack(memory), keys)[0]
        torch.testing.assert_close(ours, fresh)
        del keys


def test_a_packing_is_freed_with_its_last_user() -> None:
    """No cycle through its own cache: a batch's memory must not wait for the garbage collector."""
    layout = PackedLayout(PADDING)
    MultiHeadAttention(D_MODEL, HEADS)(torch.randn(int(LENGTHS.sum()), D_MODEL), layout)
    layout_ref = weakref.ref(layout)
    del layout
    assert layout_ref() is None


@pytest.mark.parametrize("grouped", [0, 1 << 14])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("lengths", [[4, 3, 0], [0, 4, 3], [0, 0, 0]])
@pytest.mark.parametrize("tile", [2, 128])
def test_sequences_of_no_tokens(
    lengths: list[int], dropout: float, grouped: int, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_attention, "MAX_GROUPED_SIZE", grouped)
    monkeypatch.setattr(packed_attention, "TILE_SIZE", tile)
    attention = MultiHeadAttention(D_MODEL, HEADS, causal=True, dropout=dropout)
    packing = PackedLayout(torch.arange(4)[None] < torch.tensor(lengths)[:, None])
    x = torch.randn(BATCH, 4, D_MODEL)
    attention(packing.pack(x), packing)[0].sum().backward()
    attention.eval()
    ours = attention(packing.pack(x), packing)[0]
    assert ours.shape == (sum(lengths), D_MODEL)
    for row, length in enumerate(lengths):
        alone = attention(x[row : row + 1, :length], PaddedLayout(1, length))[0][0]
        torch.testing.assert_close(ours[packing.token_slice(row)], alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("how", ["alone", "grouped", "rectangle", "weights"])
@pytest.mark.parametrize("lengths", [[11, 0, 7], [0, 2, 0], [0, 0, 0]])
def test_queries_that_see_nothing_give_zero(lengths: list[int], how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty memory: its queries get zeros (the output's bias is left), and no gradient but zero."""
    monkeypatch.setattr(packed_attention, "MAX_GROUPED_SIZE", 0 if how == "alone" else 1 << 14)
    attention = MultiHeadAttention(D_MODEL, HEADS, cross=True)
    real = torch.arange(SEQ)[None] < torch.tensor(lengths)[:, None]
    lengths_of_queries = torch.tensor([5, 4, 5])
    mask = torch.arange(5)[None] < lengths_of_queries[:, None]
    x, memory = torch.randn(BATCH, 5, D_MODEL, requires_grad=True), torch.randn(BATCH, SEQ, D_MODEL, requires_grad=True)
    packed = how in ("alone", "grouped")
    layout, keys = (
        (PackedLayout(mask), PackedLayout(real))
        if packed
        else (PaddedLayout(BATCH, 5, mask), PaddedLayout(BATCH, SEQ, real))
    )
    ours = layout.unpack(attention(layout.pack(x), layout, keys.pack(memory), keys, need_weights=how == "weights")[0])
    ours[mask].square().sum().backward()
    for row, length in enumerate(lengths):
        n = int(lengths_of_queries[row])
        if length == 0:
            torch.testing.assert_close(ours[row, :n], attention.output.bias.expand(n, -1))
            assert (x.grad[row] == 0).all()
            assert (memory.grad[row] == 0).all()
            continue
        alone = attention(
            x[row : row + 1, :n], PaddedLayout(1, n), memory[row : row + 1, :length], PaddedLayout(1, length)
        )[0][0]
        torch.testing.assert_close(ours[row, :n], alone, atol=1e-6, rtol=1e-5)
        assert x.grad[row, :n].abs().sum() > 0
    assert all(p.grad.isfinite().all() for p in attention.parameters())


@pytest.mark.parametrize("tile", [2, 128])
def test_packed_attention_derivative_by_finite_differences(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_attention, "TILE_SIZE", tile)
    q, k, v = (torch.randn(7, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    packing = PackedLayout(torch.tensor([[True] * 4, [True] * 3 + [False]]))
    groups = attention_groups(packing, packing, True, None)
    assert max(len(block.tiles) for block in groups) == (2 if tile == 2 else 1)

    def attend(*qkv: torch.Tensor) -> torch.Tensor:
        return PackedAttentionFunction.apply(*qkv, groups, 0.0)

    assert torch.autograd.gradcheck(attend, (q, k, v))


@pytest.mark.parametrize("tile", [2, 128])
@pytest.mark.parametrize("causal", [False, True])
def test_packed_attention_with_dropout_keeps_mask_in_backward(
    causal: bool, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same draw in every pass: all three gradients are those of the function with that very mask."""
    monkeypatch.setattr(packed_attention, "TILE_SIZE", tile)
    q, k, v = (torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    packing = PackedLayout(torch.ones(1, 5, dtype=torch.bool))
    groups = attention_groups(packing, packing, causal, None)

    def attend(*qkv: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return PackedAttentionFunction.apply(*qkv, groups, 0.5)

    assert (attend(q, k, v) - PackedAttentionFunction.apply(q, k, v, groups, 0.0)).abs().max() > 0.1
    assert torch.autograd.gradcheck(attend, (q, k, v))


@pytest.mark.parametrize(("causal", "window"), [(True, None), (True, 4), (False, 2), (False, None)])
@pytest.mark.parametrize("padding", [PADDING, torch.ones_like(PADDING)])
def test_unpacked_kernel_equals_packed(causal: bool, window: int | None, padding: torch.Tensor) -> None:
    """What runs on devices other than the CPU, here on the CPU."""
    packing = PackedLayout(padding)
    q, k, v = torch.randn(3, int(padding.sum()), HEADS, 6)
    ours = attend_packed(q, k, v, packing, packing, causal=causal, window=window)
    out = attend_unpacked(q, k, v, packing, packing, causal=causal, window=window)
    torch.testing.assert_close(out, ours, atol=1e-6, rtol=1e-5)


def test_dropout_on_the_weights_keeps_rate_and_mean() -> None:
    """With values that pick single keys out, each output is a weight: 0, or itself times 1 / (1 - p)."""
    seq = 200
    q, k = torch.randn(2, seq, 4, seq)
    v = torch.eye(seq)[:, None].expand(-1, 4, -1).contiguous()
    packing = PackedLayout(torch.ones(1, seq, dtype=torch.bool))
    whole = attend_packed(q, k, v, packing, packing, causal=True)
    out = attend_packed(q, k, v, packing, packing, causal=True, dropout=0.25)
    real = whole > 0
    assert real.sum() == 4 * seq * (seq + 1) / 2
    not_dropped = out[real] > 0
    torch.testing.assert_close(out[real][not_dropped], whole[real][not_dropped] / 0.75)
    assert not_dropped.float().mean().item() == pytest.approx(0.75, abs=0.005)
    assert (out[~real] == 0).all()


def test_a_long_sequence_costs_no_square() -> None:
    """What is kept for backward: a little over half of the weights under a sequence mask, the band under a window."""
    saved_sizes: dict[int | None, int] = {}
    packing = PackedLayout(torch.ones(1, 1024, dtype=torch.bool))
    for window in (None, 32):
        q = torch.randn(1024, 1, 2, requires_grad=True)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()), lambda x: x):
            attend_packed(q, q.detach(), q.detach(), packing, packing, causal=True, window=window)
        saved_sizes[window] = sum(sizes)
    assert 0.5 < saved_sizes[None] / 1024**2 < 0.6
    assert 32 / 1024 < saved_sizes[32] / 1024**2 < 0.17


def test_groups_hold_every_sequence_once_and_are_of_like_length() -> None:
    lengths = torch.tensor([3, 90, 88, 60, 11, 12, 61, 80])
    packing = PackedLayout(torch.arange(90)[None] < lengths[:, None])
    assert len(packing.groups(10)) == 8
    groups = packing.groups(100)
    assert sorted(i for group in groups for i in group) == list(range(8))
    assert len(groups) < 8
    for group in groups:
        sizes = [packing.lengths[i] for i in group]
        assert max(sizes) - min(sizes) <= max(8, 0.15 * max(sizes))


def test_cached_steps_equal_one_pass_with_front_padding() -> None:
    attention = MultiHeadAttention(D_MODEL, HEADS, causal=True).eval()
    front = PADDING.flip(1)
    x = torch.randn(BATCH, SEQ, D_MODEL)
    whole = attention(x, PaddedLayout(BATCH, SEQ, front))[0]
    cache = KeyValueCache(BATCH, HEADS, SEQ, (D_MODEL // HEADS,) * 2)
    steps = [
        attention(x[:, a:b], PaddedLayout(BATCH, b - a, front[:, a:b]), cache=cache)[0]
        for a, b in ((0, 6), (6, 7), (7, 11))
    ]
    torch.testing.assert_close(torch.cat(steps, 1)[front], whole[front], atol=1e-6, rtol=1e-5)
    with pytest.raises(IndexError, match="holds 11 positions; 12"):
        attention(x[:, :1], PaddedLayout(BATCH, 1), cache=cache)[0]


def test_cross_cache_needs_the_memory_once() -> None:
    attention = MultiHeadAttention(D_MODEL, HEADS, cross=True).eval()
    x, memory = torch.randn(BATCH, 5, D_MODEL), torch.randn(BATCH, SEQ, D_MODEL)
    keys = PaddedLayout(BATCH, SEQ, PADDING)
    whole = attention(x, PaddedLayout(BATCH, 5), memory, keys)[0]
    cache = KeyValueCache(BATCH, HEADS, SEQ, (D_MODEL // HEADS,) * 2)
    first = attention(x[:, :2], PaddedLayout(BATCH, 2), memory, keys, cache=cache)[0]
    later = attention(x[:, 2:], PaddedLayout(BATCH, 3), cache=cache)[0]
    torch.testing.assert_close(torch.cat([first, later], 1), whole, atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="memory"):
        attention(x, PaddedLayout(BATCH, 5))[0]


@pytest.mark.parametrize(("pattern", "name"), [({"causal": True}, "causal"), ({"window": 3}, "window")])
def test_attention_to_another_sequence_has_no_pattern(pattern: dict[str, int], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        MultiHeadAttention(D_MODEL, HEADS, cross=True, **pattern)


def test_memory_without_its_layout_or_without_cross_is_refused() -> None:
    x, memory = torch.randn(BATCH, 5, D_MODEL), torch.randn(BATCH, SEQ, D_MODEL)
    layout, keys = PaddedLayout(BATCH, 5), PaddedLayout(BATCH, SEQ, PADDING)
    with pytest.raises(ValueError, match="memory_layout"):
        MultiHeadAttention(D_MODEL, HEADS, cross=True)(x, layout, memory)
    with pytest.raises(ValueError, match=r"memory.*cross=True"):
        MultiHeadAttention(D_MODEL, HEADS)(x, layout, memory, keys)


@pytest.mark.parametrize("window", [None, 3])
def test_causality(window: int | None) -> None:
    """A changed token changes nothing before it, and under a window nothing from `window` positions after it on."""
    attention = MultiHeadAttention(D_MODEL, HEADS, causal=True, window=window)
    x = torch.randn(1, SEQ, D_MODEL)
    changed = x.clone()
    changed[0, 5] += 1.0
    layout = PackedLayout(torch.ones(1, SEQ, dtype=torch.bool))
    difference = (attention(x[0], layout)[0] - attention(changed[0], layout)[0]).abs().amax(-1)
    assert (difference[:5] == 0).all()
    assert difference[5] > 0
    if window is not None:
        assert (difference[5 : 5 + window] > 0).all()
        assert (difference[5 + window :] == 0).all()


def test_odd_head_sizes_are_allowed_when_named() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        MultiHeadAttention(10, 4)
    attention = MultiHeadAttention(10, 4, d_head=3)
    assert attention(torch.randn(2, 5, 10), PaddedLayout(2, 5))[0].shape == (2, 5, 10)


def test_scores_are_scaled_by_the_head_size() -> None:
    attention = MultiHeadAttention(2, 1)
    attention.qkv.weight.data = torch.eye(2).repeat(3, 1)
    attention.qkv.bias.data.zero_()
    _, attn_weights = attention(torch.eye(2)[None], PaddedLayout(1, 2), need_weights=True)
    high = math.exp(2**-0.5)
    torch.testing.assert_close(attn_weights[0, 0, 0], torch.tensor([high, 1.0]) / (high + 1.0))


def test_sequence_mask_lower_rows_continue_from_a_cache() -> None:
    assert masks.causal_mask(2, 5).tolist() == masks.causal_mask(5, 5)[3:].tolist()


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("layout", ["rectangle", "alone", "grouped", "weights", "cache"])
def test_keys_narrower_than_values(cross: bool, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """d_key 2 beside d_head 6 (table 3's rows B) is attention whose keys' other four dimensions are zero, at another scale."""
    monkeypatch.setattr(packed_attention, "MAX_GROUPED_SIZE", 0 if layout == "alone" else 1 << 14)
    narrow = MultiHeadAttention(D_MODEL, HEADS, d_key=2, cross=cross, causal=not cross)
    wide = MultiHeadAttention(D_MODEL, HEADS, cross=cross, causal=not cross)
    assert sum(p.numel() for p in wide.parameters()) - sum(p.numel() for p in narrow.parameters()) == (
        2 * HEADS * 4 * (D_MODEL + 1)
    )
    maps = [(narrow.fused_projection, wide.fused_projection, narrow.split_sizes, wide.split_sizes)]
    maps += [(narrow.query, wide.query, [2 * HEADS], [6 * HEADS])] if cross else []
    for small, large, parts, wider in maps:
        for name in ("weight", "bias"):
            pieces = getattr(small, name).detach().split(parts), getattr(large, name).data.zero_().split(wider)
            for piece, target in zip(*pieces, strict=True):
                heads = piece.unflatten(0, (HEADS, -1))
                target.unflatten(0, (HEADS, -1))[:, : heads.shape[1]] = heads * (3**0.25 if heads.shape[1] == 2 else 1)
    wide.output.load_state_dict(narrow.output.state_dict())
    x, memory = torch.randn(BATCH, SEQ, D_MODEL), torch.randn(BATCH, SEQ, D_MODEL) if cross else None
    outs = [_read(attention, layout, x, memory) for attention in (narrow, wide)]
    torch.testing.assert_close(*outs, atol=1e-5, rtol=1e-5)


def _read(attention: MultiHeadAttention, how: str, x: torch.Tensor, memory: torch.Tensor | None) -> torch.Tensor:
    """The outputs of real tokens, computed by one of the code paths, then the gradients of the value weights."""
    packed = how in ("alone", "grouped")
    layout = PackedLayout(PADDING) if packed else PaddedLayout(BATCH, SEQ, PADDING)
    tokens, source = layout.pack(x), None if memory is None else layout.pack(memory)
    cache = attention.init_cache(BATCH, SEQ, x) if how == "cache" else None
    out = layout.unpack(
        attention(tokens, layout, source, None if memory is None else layout, cache, how == "weights")[0]
    )
    attention.zero_grad()
    (out[PADDING] ** 2).sum().backward()
    gradient = attention.fused_projection.weight.grad
    assert gradient is not None
    return torch.cat([out[PADDING], gradient.split(attention.split_sizes)[-1]]).detach()
