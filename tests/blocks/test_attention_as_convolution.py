"""Multi-head attention whose weights depend on distance alone is a 1x1 convolution, a depthwise one whose kernel each head
shares, and a 1x1 convolution again (docs/attention-as-convolution.md)."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.kernels.packing import PackedLayout, PaddedLayout

D, HEADS, N, REACH = 12, 3, 24, 4
D_HEAD = D // HEADS


def as_convolutions(attention: MultiHeadAttention, kernels: Tensor, x: Tensor) -> Tensor:
    """`kernels`: `heads 2 REACH + 1`, the weight of each distance, from REACH before to REACH after."""
    value = attention.qkv.weight[2 * D :], attention.qkv.bias[2 * D :]
    h = functional.conv1d(x.transpose(1, 2), value[0][:, :, None], value[1])
    kernel = kernels.repeat_interleave(D_HEAD, 0)[:, None]  # one kernel a channel, the same inside a head
    h = functional.conv1d(h, kernel, padding=REACH, groups=D)
    return functional.conv1d(h, attention.output.weight[:, :, None], attention.output.bias).transpose(1, 2)


def random_attention(**settings: object) -> MultiHeadAttention:
    attention = MultiHeadAttention(D, HEADS, **settings).double()
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.5)
    return attention


def test_any_kernel_in_the_place_of_the_softmax() -> None:
    """Its own values and output map, around weights a(j - i): exactly, at the edges too."""
    attention = random_attention()
    kernels = torch.randn(HEADS, 2 * REACH + 1, dtype=torch.double)
    x = torch.randn(2, N, D, dtype=torch.double)
    distance = torch.arange(N)[None] - torch.arange(N)[:, None]  # key - query
    inside = distance.abs() <= REACH
    attn_weights = kernels[:, (distance + REACH).clamp(0, 2 * REACH)] * inside
    value = attention.qkv(x)[..., 2 * D :].unflatten(-1, (HEADS, D_HEAD))
    mixed = torch.einsum("hij,bjhd->bihd", attn_weights, value)
    torch.testing.assert_close(
        as_convolutions(attention, kernels, x), attention.output(mixed.flatten(-2)), atol=1e-12, rtol=1e-12
    )


def placed(attention: MultiHeadAttention, centre: Tensor, width: Tensor) -> Tensor:
    """Make queries and keys read positions, which stand in the first two channels as j and j^2, and nothing else.

    Head h scores -width (j - i - centre)^2, but for a part that depends on the query i alone and falls out in the softmax:
    2 width (i + centre) j - width j^2.
    """
    weight, bias = attention.qkv.weight, attention.qkv.bias
    with torch.no_grad():
        weight[: 2 * D] = 0
        bias[: 2 * D] = 0
        for head in range(HEADS):
            first, key = head * D_HEAD, D + head * D_HEAD
            scale = 2 * width[head] * D_HEAD**0.5
            weight[first, 0] = scale  # times j of the key
            bias[first] = scale * centre[head]
            bias[first + 1] = -width[head] * D_HEAD**0.5  # times j^2 of the key
            weight[key, 0] = 1
            weight[key + 1, 1] = 1
    x = torch.randn(2, N, D, dtype=torch.double)
    x[:, :, 0] = torch.arange(N, dtype=torch.double)
    x[:, :, 1] = x[:, :, 0] ** 2
    return x


@pytest.mark.parametrize("packed", [True, False])
def test_real_attention_that_looks_at_positions_is_a_convolution(packed: bool) -> None:
    """The softmax itself, over a neighbourhood. Where the neighbourhood lies within the sequence the kernel is the softmax of
    the scores of its distances; at the edges what is left of it is brought to a sum of 1, which a convolution of ones does."""
    attention = random_attention(window=REACH)
    centre, width = torch.tensor([-2.0, 0.0, 1.0]), torch.tensor([0.7, 0.1, 2.0])
    x = placed(attention, centre, width)
    distances = torch.arange(-REACH, REACH + 1, dtype=torch.double)
    scores = -width[:, None] * (distances - centre[:, None]) ** 2
    kernels = scores.double().softmax(-1)
    layout = PackedLayout(torch.ones(2, N, dtype=torch.bool)) if packed else PaddedLayout(2, N)
    out = layout.unpack(attention(layout.pack(x), layout)[0])
    inner = slice(REACH, N - REACH)
    torch.testing.assert_close(out[:, inner], as_convolutions(attention, kernels, x)[:, inner], atol=1e-6, rtol=0)
    ones = torch.ones(1, D, N, dtype=torch.double)
    kernel = kernels.repeat_interleave(D_HEAD, 0)[:, None]
    value = (x @ attention.qkv.weight[2 * D :].T + attention.qkv.bias[2 * D :]).transpose(1, 2)
    mixed = functional.conv1d(value, kernel, padding=REACH, groups=D)
    whole = functional.conv1d(ones, kernel, padding=REACH, groups=D)
    torch.testing.assert_close(out, attention.output((mixed / whole).transpose(1, 2)), atol=1e-6, rtol=0)
    assert (out - as_convolutions(attention, kernels, x))[:, 0].abs().max() > 1e-3  # the edge is not the same without


def test_content_makes_it_more_than_a_convolution() -> None:
    """With queries and keys that read content the same layer is no convolution: it does not commute with a shift."""
    attention = random_attention(window=REACH)
    x = torch.randn(1, N, D, dtype=torch.double)
    x[:, :, :2] = 0
    kernels = torch.full((HEADS, 2 * REACH + 1), 1 / (2 * REACH + 1), dtype=torch.double)
    inner = slice(REACH, N - REACH)
    out = attention(x, PaddedLayout(1, N))[0][:, inner]
    assert (out - as_convolutions(attention, kernels, x)[:, inner]).abs().max() > 0.1
    with torch.no_grad():  # without scores it is the mean of the neighbourhood
        attention.qkv.weight[: 2 * D] = 0
        attention.qkv.bias[: 2 * D] = 0
    out = attention(x, PaddedLayout(1, N))[0][:, inner]
    torch.testing.assert_close(out, as_convolutions(attention, kernels, x)[:, inner], atol=1e-12, rtol=0)
