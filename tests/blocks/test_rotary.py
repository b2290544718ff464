"""Rotary positions: scores depend on distances alone, in every layout, with a cache, a window and padding on the left."""

import pytest
import torch
from transformers import GPTNeoXConfig, LlamaConfig
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXAttention, GPTNeoXRotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.kernels.packing import PackedLayout, PaddedLayout
from protoformer.blocks.positions import RotaryPositions, absolute_position_embedding

BATCH, SEQ, D_MODEL, HEADS = 3, 11, 24, 4
D_KEY = D_MODEL // HEADS
LENGTHS = torch.tensor([11, 4, 7])
RIGHT_PADDED = torch.arange(SEQ)[None] < LENGTHS[:, None]
LEFT_PADDED = RIGHT_PADDED.flip(1)


def attention(causal: bool = True, window: int | None = None, **options: int) -> MultiHeadAttention:
    rotary = RotaryPositions(64, options.get("d_key", D_KEY))
    return MultiHeadAttention(D_MODEL, HEADS, causal=causal, window=window, rotary=rotary, **options).eval()


def test_rotation_is_the_papers_formula() -> None:
    """Each pair is turned by m / 10000^(2i/d): as complex numbers, times e^(i angle)."""
    x, position = torch.randn(5, 2, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 17, 63])
    pairs = torch.complex(x[..., :3], x[..., 3:])
    angles = position[:, None] / 10000 ** (torch.arange(3, dtype=torch.float64) / 3)
    expected = pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
    rotated = RotaryPositions(64, 6)(x, position)
    torch.testing.assert_close(rotated, torch.cat([expected.real, expected.imag], -1), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(rotated.norm(dim=-1), x.norm(dim=-1), atol=1e-6, rtol=1e-6)
    assert RotaryPositions(64, 6).state_dict() == {}


def test_scores_depend_on_the_distance_alone() -> None:
    rotary, q, k = RotaryPositions(64, D_KEY), torch.randn(SEQ, 1, D_KEY), torch.randn(SEQ, 1, D_KEY)
    scores = []
    for shift in (0, 7, 50):
        position = torch.arange(SEQ) + shift
        scores.append(torch.einsum("qhd,khd->qk", rotary(q, position), rotary(k, position)))
    torch.testing.assert_close(scores[0], scores[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores[0], scores[2], atol=1e-5, rtol=1e-5)
    still = torch.einsum("qhd,khd->qk", q, k)
    torch.testing.assert_close(scores[0].diagonal(), still.diagonal(), atol=1e-5, rtol=1e-5)
    assert (scores[0] - still).abs().max() > 0.1


@pytest.mark.parametrize(("causal", "window"), [(True, None), (True, 3), (False, None), (False, 2)])
@pytest.mark.parametrize("d_key", [2, D_KEY])
def test_layouts_agree(causal: bool, window: int | None, d_key: int) -> None:
    """Packed, padded on the right, padded on the left, each sequence alone, and with the attention weights asked for."""
    ours, x = attention(causal, window, d_key=d_key), torch.randn(BATCH, SEQ, D_MODEL)
    left = torch.zeros_like(x)
    left[LEFT_PADDED] = x[RIGHT_PADDED]
    packed = PackedLayout(RIGHT_PADDED)
    expected = torch.cat([ours(x[i : i + 1, :n], PaddedLayout(1, n))[0][0] for i, n in enumerate(LENGTHS.tolist())])
    outs = {
        "packed": ours(packed.pack(x), packed)[0],
        "right": ours(x, PaddedLayout(BATCH, SEQ, RIGHT_PADDED))[0][RIGHT_PADDED],
        "left": ours(left, PaddedLayout(BATCH, SEQ, LEFT_PADDED))[0][LEFT_PADDED],
        "weights": ours(x, PaddedLayout(BATCH, SEQ, RIGHT_PADDED), need_weights=True)[0][RIGHT_PADDED],
    }
    for name, out in outs.items():
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
    plain = MultiHeadAttention(D_MODEL, HEADS, causal=causal, window=window, d_key=d_key).eval()
    plain.load_state_dict(ours.state_dict())  # the same parameters, and another function
    assert (plain(packed.pack(x), packed)[0] - expected).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("window", [None, 3])
def test_cached_steps_equal_one_pass(window: int | None) -> None:
    """By `forward` in pieces and by `decode_step`, after prompts of unequal length that are padded on the left."""
    ours, x = attention(window=window), torch.randn(BATCH, SEQ, D_MODEL)
    real = LEFT_PADDED | (torch.arange(SEQ) >= 8)[None]
    whole = ours(x, PaddedLayout(BATCH, SEQ, real))[0]
    by_forward, by_step = ours.init_cache(BATCH, SEQ, x), ours.init_cache(BATCH, SEQ, x)
    for cache in (by_forward, by_step):
        prompt = ours(x[:, :8], PaddedLayout(BATCH, 8, real[:, :8]), cache=cache)[0]
        torch.testing.assert_close(prompt[real[:, :8]], whole[:, :8][real[:, :8]], atol=1e-5, rtol=1e-5)
    for i in range(8, SEQ):
        position = real[:, :i].sum(1)
        forward = ours(x[:, i : i + 1], PaddedLayout(BATCH, 1, offset=position), cache=by_forward)[0][:, 0]
        step = ours.decode_step(x[:, i], position, by_step, real[:, : i + 1])
        torch.testing.assert_close(forward, whole[:, i], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(step, whole[:, i], atol=1e-5, rtol=1e-5)


def test_attention_equals_llama() -> None:
    config = LlamaConfig(
        hidden_size=D_MODEL, num_attention_heads=HEADS, num_key_value_heads=HEADS, attention_bias=True,
        attn_implementation="eager",
    )  # fmt: skip
    theirs, ours = LlamaAttention(config, 0).eval(), attention()
    projections = (theirs.q_proj, theirs.k_proj, theirs.v_proj)
    ours.qkv.weight.data = torch.cat([projection.weight.data for projection in projections])
    ours.qkv.bias.data = torch.cat([projection.bias.data for projection in projections])
    ours.output.load_state_dict(theirs.o_proj.state_dict())
    x, mask = torch.randn(2, SEQ, D_MODEL), torch.full((SEQ, SEQ), -torch.inf).triu(1)
    turns = LlamaRotaryEmbedding(config)(x, torch.arange(SEQ)[None])
    expected = theirs(x, position_embeddings=turns, attention_mask=mask[None, None])[0]
    torch.testing.assert_close(ours(x, PaddedLayout(2, SEQ))[0], expected, atol=1e-5, rtol=1e-5)


def test_attention_equals_gpt_neox() -> None:
    config = GPTNeoXConfig(
        hidden_size=D_MODEL, num_attention_heads=HEADS, rotary_pct=1.0, attn_implementation="eager",
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
    )  # fmt: skip
    theirs, ours = GPTNeoXAttention(config, 0).eval(), attention()
    # theirs is (heads, q k v, width), ours (q k v, heads, width)
    for name in ("weight", "bias"):
        fused = getattr(theirs.query_key_value, name).data.unflatten(0, (HEADS, 3, D_KEY)).transpose(0, 1)
        getattr(ours.qkv, name).data = fused.flatten(0, 2).contiguous()
    ours.output.load_state_dict(theirs.dense.state_dict())
    x, mask = torch.randn(2, SEQ, D_MODEL), torch.full((SEQ, SEQ), -torch.inf).triu(1)
    turns = GPTNeoXRotaryEmbedding(config)(x, torch.arange(SEQ)[None])
    expected = theirs(x, attention_mask=mask[None, None], position_embeddings=turns)[0]
    torch.testing.assert_close(ours(x, PaddedLayout(2, SEQ))[0], expected, atol=1e-5, rtol=1e-5)


def test_half_precision_keeps_its_type() -> None:
    x = torch.randn(5, 2, 6, dtype=torch.bfloat16)
    assert RotaryPositions(8, 6)(x, torch.arange(5)).dtype == torch.bfloat16


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="d_key=5 is odd"):
        RotaryPositions(8, 5)
    with pytest.raises(ValueError, match=r"rotary: .*cross"):
        MultiHeadAttention(D_MODEL, HEADS, cross=True, rotary=RotaryPositions(8, D_KEY))
    with pytest.raises(Exception, match=r"learned.*sinusoidal.*rotary"):
        absolute_position_embedding("relative", 8, D_MODEL)
