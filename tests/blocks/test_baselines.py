"""Recurrent and convolutional layers as stacks: padding, order, reading step by step, and the papers' formulas written out."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from protoformer.blocks.baselines.convolution import (
    Convolution,
    ConvolutionDecoderLayer,
    ConvolutionEncoderLayer,
    GatedConvolution,
    build_convolution,
)
from protoformer.blocks.baselines.recurrent import RecurrentDecoderLayer, RecurrentEncoderLayer, UnidirectionalRNN
from protoformer.blocks.baselines.source_attention import SourceAttention
from protoformer.blocks.kernels.cache import StateCache
from protoformer.blocks.kernels.packing import Layout, PackedLayout, PaddedLayout
from protoformer.blocks.stacks import DecoderStack, EncoderStack

D = 8
LENGTHS = torch.tensor([7, 2, 5, 1])
MASK = torch.arange(7)[None] < LENGTHS[:, None]
SOURCES = torch.arange(6)[None] < torch.tensor([3, 6, 1, 4])[:, None]
Make = Callable[[SourceAttention | None], nn.Module]
DECODERS: dict[str, Make] = {
    "lstm, luong": lambda a: RecurrentDecoderLayer(D, a, cell="lstm", residual=True),
    "gru, luong": lambda a: RecurrentDecoderLayer(D, a, cell="gru", norm="pre"),
    "lstm, bahdanau": lambda a: RecurrentDecoderLayer(D, a, style="bahdanau", norm="post"),
    "gru, bahdanau": lambda a: RecurrentDecoderLayer(D, a, cell="gru", style="bahdanau", residual=True),
    "gated": lambda a: ConvolutionDecoderLayer(build_convolution("gated", D, 3, causal=True), D, a),
    "gated, even": lambda a: ConvolutionDecoderLayer(build_convolution("gated", D, 4, causal=True), D, a),
    "dilated": lambda a: ConvolutionDecoderLayer(build_convolution("dilated", D, 3, dilation=2, causal=True), D, a),
    "separable": lambda a: ConvolutionDecoderLayer(build_convolution("separable", D, 5, causal=True), D, a),
}
ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: RecurrentEncoderLayer(D, residual=True, norm="pre"),
    "gru": lambda: RecurrentEncoderLayer(D, cell="gru", norm="post"),
    "gated": lambda: ConvolutionEncoderLayer(build_convolution("gated", D, 3)),
    "dilated": lambda: ConvolutionEncoderLayer(build_convolution("dilated", D, 3, dilation=2)),
    "separable": lambda: ConvolutionEncoderLayer(build_convolution("separable", D, 5)),
}


def decoder(name: str, score: str | None = None, layers: int = 2) -> DecoderStack:
    """Every layer attends to the source, or none; weights are large enough to make a difference seen."""
    stack = DecoderStack([DECODERS[name](None if score is None else SourceAttention(D, score)) for _ in range(layers)])
    return with_large_weights(stack)


def with_large_weights(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module.double().eval()


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.double)


# --- padding


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_sees_no_padding(name: str) -> None:
    """Packed, padded and one by one: forward and backward."""
    stack = with_large_weights(EncoderStack([ENCODERS[name](), ENCODERS[name]()]))
    same_in_every_layout(lambda x, layout: stack(x, layout).tokens, stack)


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_sees_no_padding(name: str) -> None:
    stack = decoder(name)
    same_in_every_layout(lambda x, layout: stack(x, layout).tokens, stack)


def same_in_every_layout(run: Callable[[Tensor, Layout], Tensor], stack: nn.Module) -> None:
    x = randn(4, 7, D)
    x[~MASK] = 1e3  # what stands in padding must not matter
    results = {}
    for name, layout in {"packed": PackedLayout(MASK), "padded": PaddedLayout(4, 7, MASK)}.items():
        stack.zero_grad()
        inputs = x.clone().requires_grad_()
        out = layout.unpack(run(layout.pack(inputs), layout))[MASK]
        (out**2).sum().backward()
        assert inputs.grad is not None
        assert (inputs.grad[~MASK] == 0).all()
        results[name] = [out.detach(), inputs.grad[MASK], *(p.grad for p in stack.parameters() if p.grad is not None)]
    for packed, padded in zip(*results.values(), strict=True):
        torch.testing.assert_close(packed, padded)
    alone = [run(x[i : i + 1, :n], PaddedLayout(1, n))[0] for i, n in enumerate(LENGTHS.tolist())]
    torch.testing.assert_close(results["packed"][0], torch.cat(alone).detach())
    assert results["packed"][0].std() > 0.05


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_sees_to_both_sides(name: str) -> None:
    stack = with_large_weights(EncoderStack([ENCODERS[name]()]))
    x = randn(1, 9, D).requires_grad_()
    stack(x, PaddedLayout(1, 9)).tokens[0, 4].sum().backward()
    assert x.grad is not None
    reached = x.grad[0].abs().sum(-1).nonzero().flatten().tolist()
    expected = {"gated": [3, 4, 5], "dilated": [2, 4, 6], "separable": [2, 3, 4, 5, 6]}
    assert reached == expected.get(name, list(range(9)))


# --- order


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", DECODERS)
def test_no_token_sees_a_later_one(name: str, packed: bool) -> None:
    stack = decoder(name, "general")
    layout = PackedLayout(MASK) if packed else PaddedLayout(4, 7, MASK)
    memory = randn(4, 6, D)
    x = randn(4, 7, D)
    changed = x.clone()
    changed[:, 4] = randn(4, D)
    before, after = (
        layout.unpack(stack(layout.pack(one), layout, memory, PaddedLayout(4, 6, SOURCES)).tokens)
        for one in (x, changed)
    )
    assert torch.equal(before[MASK][:4], after[MASK][:4])
    assert torch.equal(before[:, :4][MASK[:, :4]], after[:, :4][MASK[:, :4]])
    assert (before[0, 4] - after[0, 4]).abs().max() > 1e-3
    assert (before[2, 4] - after[2, 4]).abs().max() > 1e-3


# --- step by step


@pytest.mark.parametrize("score", [None, "general", "additive", "dot", "scaled_dot"])
@pytest.mark.parametrize("name", DECODERS)
def test_read_in_pieces_it_is_the_same(name: str, score: str | None) -> None:
    stack = decoder(name, score)
    x, memory, source = randn(4, 9, D), randn(4, 6, D), PaddedLayout(4, 6, SOURCES)
    whole = stack(x, PaddedLayout(4, 9), memory, source).tokens
    caches, cross = stack.init_caches(4, 9, x), stack.init_cross_caches(4, 6, x)
    assert len(cross) == (0 if score is None else 2)
    pieces = []
    for a, b in ((0, 3), (3, 4), (4, 5), (5, 9)):
        source_inputs = (memory, source) if a == 0 else (None, None)  # it is read once
        pieces.append(
            stack(x[:, a:b], PaddedLayout(4, b - a, None, a), *source_inputs, caches=caches, cross_caches=cross).tokens
        )
    torch.testing.assert_close(torch.cat(pieces, 1), whole)
    with pytest.raises(IndexError, match="the cache holds 9 positions; 10 were requested"):
        stack(x[:, :1], PaddedLayout(4, 1, None, 9), caches=caches, cross_caches=cross)


@pytest.mark.parametrize("name", DECODERS)
def test_selected_rows_of_caches(name: str) -> None:
    """As a beam search moves them: rows are left out, doubled and exchanged in the middle of a text."""
    stack = decoder(name, "general")
    x, memory, source = randn(4, 6, D), randn(4, 6, D), PaddedLayout(4, 6, SOURCES)
    caches, cross = stack.init_caches(4, 6, x), stack.init_cross_caches(4, 6, x)
    stack(x[:, :4], PaddedLayout(4, 4), memory, source, caches=caches, cross_caches=cross)
    rows = torch.tensor([2, 0, 2])
    for cache in (*caches, *cross):
        cache.select(rows)
    later = stack(x[rows, 4:], PaddedLayout(3, 2, None, 4), caches=caches, cross_caches=cross).tokens
    torch.testing.assert_close(later, stack(x, PaddedLayout(4, 6), memory, source).tokens[rows, 4:])


@pytest.mark.parametrize("name", DECODERS)
def test_texts_of_unequal_length_are_read_as_if_alone(name: str) -> None:
    """Padding stands in front in the first call."""
    stack = decoder(name)
    x, more = randn(3, 6, D), randn(3, 2, D)
    lengths = [6, 2, 1]
    real = torch.arange(6)[None] >= 6 - torch.tensor(lengths)[:, None]
    caches = stack.init_caches(3, 8, x)
    first = stack(x, PaddedLayout(3, 6, real), caches=caches).tokens
    second = stack(more, PaddedLayout(3, 2), caches=caches).tokens
    assert caches[0].padding_mask is not None
    assert caches[0].padding_mask.sum(1).tolist() == [8, 4, 3]
    for row, length in enumerate(lengths):
        alone = torch.cat([x[row, 6 - length :], more[row]])[None]
        expected = stack(alone, PaddedLayout(1, length + 2)).tokens[0]
        torch.testing.assert_close(torch.cat([first[row, 6 - length :], second[row]]), expected)


# --- the papers' formulas


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_recurrences_are_torchs_own(cell: str) -> None:
    """Two layers, both ways, over a packed sequence."""
    theirs = (nn.LSTM if cell == "lstm" else nn.GRU)(
        D, D // 2, num_layers=2, bidirectional=True, batch_first=True, dtype=torch.double
    )
    stack = EncoderStack([RecurrentEncoderLayer(D, cell=cell), RecurrentEncoderLayer(D, cell=cell)]).double()
    for number, layer in enumerate(stack.layers):
        for side, end in ((layer.recurrence.forwards, ""), (layer.recurrence.backwards, "_reverse")):
            for name, parameter in side.named_parameters():
                parameter.data.copy_(getattr(theirs, name.replace("l0", f"l{number}") + end))
    x = randn(4, 7, D)
    packed = nn.utils.rnn.pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    layout = PackedLayout(MASK)
    torch.testing.assert_close(layout.unpack(stack(layout.pack(x), layout).tokens), expected)


@pytest.mark.parametrize(
    ("kernel", "dilation", "causal", "depthwise"),
    [(3, 1, False, False), (5, 2, False, False), (4, 3, True, False), (3, 1, False, True), (2, 4, True, True)],
)
def test_a_convolution_is_torchs_own(kernel: int, dilation: int, causal: bool, depthwise: bool) -> None:
    out = D if depthwise else 6
    ours = with_large_weights(Convolution(D, out, kernel, dilation=dilation, causal=causal, depthwise=depthwise))
    theirs = nn.Conv1d(D, out, kernel, dilation=dilation, groups=D if depthwise else 1, dtype=torch.double)
    weight = ours.map.weight if depthwise else ours.map.weight.view(out, kernel, D).transpose(1, 2)
    theirs.load_state_dict({"weight": weight, "bias": ours.map.bias})
    x = randn(2, 11, D)
    receptive_field = (kernel - 1) * dilation
    left = receptive_field if causal else receptive_field // 2
    expected = theirs(functional.pad(x.transpose(1, 2), (left, receptive_field - left))).transpose(1, 2)
    torch.testing.assert_close(ours(x, PaddedLayout(2, 11)), expected)


def test_the_gated_layer_keeps_the_variance() -> None:
    """ConvS2S, section 3.5: what the start of its weights is made for, where inputs are small (gates near 1/2)."""
    layers = nn.ModuleList(GatedConvolution(64, 3) for _ in range(10))
    x = 0.1 * torch.randn(8, 100, 64)
    layout = PaddedLayout(8, 100)
    for layer in layers:
        x = layer(x, layout)
    assert x.detach().std().item() == pytest.approx(0.1, rel=0.2)


@pytest.mark.parametrize("score", ["additive", "dot", "scaled_dot", "general"])
def test_contexts_are_the_papers(score: str) -> None:
    attention = with_large_weights(SourceAttention(D, score))
    state, memory = randn(2, 3, D), randn(2, 5, D)
    context, attn_weights = attention(state, attention.project_source(memory, PaddedLayout(2, 5)))
    for b in range(2):
        for t in range(3):
            if score == "additive":
                hidden = attention.query.weight @ state[b, t] + memory[b] @ attention.key.weight.T + attention.key.bias
                scores = torch.tanh(hidden) @ attention.energy.weight[0]
            elif score == "general":
                scores = torch.stack([state[b, t] @ attention.key.weight @ h for h in memory[b]])
            else:
                scores = memory[b] @ state[b, t] / (D**0.5 if score == "scaled_dot" else 1.0)
            attn_probs = scores.exp() / scores.exp().sum()
            torch.testing.assert_close(attn_weights[b, 0, t], attn_probs)
            torch.testing.assert_close(context[b, t], attn_probs @ memory[b])


def test_bahdanaus_decoder_written_out() -> None:
    """c_i from s_{i-1}; s_i = f(s_{i-1}, [y_i; c_i]); the first state from the memory's first vector (appendix A.2.2)."""
    attention = SourceAttention(D, "additive")
    layer = with_large_weights(RecurrentDecoderLayer(D, attention, cell="gru", style="bahdanau"))
    cell = nn.GRUCell(2 * D, D, dtype=torch.double)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.recurrence.recurrence.state_dict().items()})
    y, memory = randn(2, 4, D), randn(2, 5, D)
    out, _, attn_weights = layer(y, PaddedLayout(2, 4), memory, PaddedLayout(2, 5), need_weights=True)
    assert attn_weights.shape == (2, 1, 4, 5)
    state = torch.tanh(memory[:, 0] @ layer.start.weight.T + layer.start.bias)
    for i in range(4):
        scores = attention.energy(torch.tanh(attention.query(state)[:, None] + attention.key(memory)))
        attn_probs = scores.softmax(1)
        torch.testing.assert_close(attn_weights[:, 0, i], attn_probs[:, :, 0])
        context = (attn_probs * memory).sum(1)
        state = cell(torch.cat([y[:, i], context], -1), state)
        torch.testing.assert_close(out[:, i], torch.tanh(layer.readout(torch.cat([context, state], -1))))


def test_luongs_decoder_written_out() -> None:
    """Equation 5: tanh(W [c; h]), c made from h itself."""
    attention = SourceAttention(D, "general")
    layer = with_large_weights(RecurrentDecoderLayer(D, attention))
    y, memory = randn(2, 4, D), randn(2, 5, D)
    first = torch.tanh(layer.start(memory[:, 0]))
    h, _ = layer.recurrence.recurrence(y, (first[None], torch.zeros_like(first)[None]))
    attn_probs = (h @ attention.key(memory).transpose(1, 2)).softmax(-1)
    expected = torch.tanh(torch.cat([attn_probs @ memory, h], -1) @ layer.readout.weight.T + layer.readout.bias)
    torch.testing.assert_close(layer(y, PaddedLayout(2, 4), memory, PaddedLayout(2, 5))[0], expected)


# --- attention to a source


@pytest.mark.parametrize("name", DECODERS)
def test_the_sources_padding_is_not_seen(name: str) -> None:
    """Packed or padded, and whatever stands in it; every real source token makes a difference."""
    stack = decoder(name, "general")
    x, memory = randn(4, 7, D), randn(4, 6, D)
    other = memory.clone()
    other[~SOURCES] = 50.0
    target, source = PackedLayout(MASK), PackedLayout(SOURCES)
    expected = target.unpack(stack(target.pack(x), target, source.pack(memory), source).tokens)
    for one in (memory, other):
        out = stack(x, PaddedLayout(4, 7, MASK), one, PaddedLayout(4, 6, SOURCES)).tokens
        torch.testing.assert_close(out[MASK], expected[MASK])
    memory.requires_grad_()
    stack(x, PaddedLayout(4, 7), memory, PaddedLayout(4, 6, SOURCES)).tokens.pow(2).sum().backward()
    assert memory.grad is not None
    assert ((memory.grad != 0).any(-1) == SOURCES).all()


def test_attention_at_one_layer_alone_is_kept_and_shown() -> None:
    """As Luong's, whose top layer alone attends to the source: caches and weights go to the layer that asks for them."""
    attending = RecurrentDecoderLayer(D, SourceAttention(D))
    stack = with_large_weights(DecoderStack([RecurrentDecoderLayer(D), attending]))
    x, memory, source = randn(2, 5, D), randn(2, 6, D), PaddedLayout(2, 6)
    whole = stack(x, PaddedLayout(2, 5), memory, source, attn_layers=(0, 1))
    assert {index: weights.shape for index, weights in whole.cross_attn_weights.items()} == {1: (2, 1, 5, 6)}
    torch.testing.assert_close(whole.cross_attn_weights[1].sum(-1), torch.ones(2, 1, 5, dtype=torch.double))
    caches, cross = stack.init_caches(2, 5, x), stack.init_cross_caches(2, 6, x)
    assert len(cross) == 1
    first = stack(x[:, :2], PaddedLayout(2, 2), memory, source, caches=caches, cross_caches=cross).tokens
    second = stack(x[:, 2:], PaddedLayout(2, 3), caches=caches, cross_caches=cross).tokens
    torch.testing.assert_close(torch.cat([first, second], 1), whole.tokens)


# --- what cannot be


def test_settings_that_cannot_be() -> None:
    layout = PaddedLayout(1, 3)
    for message, make in {
        "must be even for two directions": lambda: RecurrentEncoderLayer(7),
        "kernel 4: must be odd": lambda: Convolution(D, D, 4),
        "kernel 0": lambda: Convolution(D, D, 0, causal=True),
        "depthwise: d_out": lambda: Convolution(D, 4, 3, depthwise=True),
        "must be even": lambda: build_convolution("dilated", 7, 3),
        "needs a causal convolution": lambda: Convolution(D, D, 3)(torch.zeros(1, 3, D), layout, StateCache(1, 3)),
        "needs memory": lambda: SourceAttention(D).project_source(None, None),
        "without padding": lambda: RecurrentDecoderLayer(D, SourceAttention(D))(
            torch.zeros(1, 3, D),
            PaddedLayout(1, 3, torch.tensor([[False, True, True]])),
            torch.zeros(1, 2, D),
            PaddedLayout(1, 2),
            StateCache(1, 3),
        ),
    }.items():
        with pytest.raises(ValueError, match=message):
            make()


def test_a_recurrence_goes_on_from_its_state() -> None:
    ours = with_large_weights(UnidirectionalRNN(D, "gru"))
    x = randn(2, 6, D)
    cache = StateCache(2, 6)
    parts = [ours(x[:, a:b], PaddedLayout(2, b - a), cache) for a, b in ((0, 2), (2, 6))]
    torch.testing.assert_close(torch.cat(parts, 1), ours.recurrence(x)[0])
