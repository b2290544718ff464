"""RNN, CNN and the 2017 encoder as whole models: each in its roles, over the same interfaces as the Transformer's."""

import pytest
import torch
from torch import Tensor, nn

from protoformer.blocks.kernels.packing import HiddenStates, PackedLayout, PaddedLayout
from protoformer.decoding.beam import BeamParams, beam_search
from protoformer.decoding.generation import complete
from protoformer.decoding.seq2seq import Seq2SeqParams, best_tokens, generate_targets
from protoformer.decoding.session import DecoderSession, left_pad
from protoformer.models.cnn import cnn
from protoformer.models.decoder import Decoder
from protoformer.models.encoder import Encoder
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.models.poolers import MeanPooler
from protoformer.models.rnn import rnn
from protoformer.models.transformer import transformer_encoder

VOCAB, END = 30, 3
TINY = {"vocab_size": VOCAB, "d_model": 16, "n_layers": 2, "max_seq_len": 40, "dropout": 0.0}
KINDS = {
    "luong": lambda architecture: rnn(**TINY, architecture=architecture, attention="luong"),
    "bahdanau": lambda architecture: rnn(
        **TINY, architecture=architecture, cell="gru", attention="bahdanau", attention_score="additive", norm="post"
    ),
    "gated": lambda architecture: cnn(**TINY, architecture=architecture),
    "dilated": lambda architecture: cnn(
        **TINY, architecture=architecture, kind="dilated", positions="none", dilations=(1, 2)
    ),
    "separable": lambda architecture: cnn(**TINY, architecture=architecture, kind="separable"),
}
LENGTHS = torch.tensor([9, 4, 1])
MASK = torch.arange(9)[None] < LENGTHS[:, None]


def built(kind: str, architecture: str) -> nn.Module:
    """Sharp enough that no two tokens are as likely."""
    model = KINDS[kind](architecture).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def texts(number: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(number)
    return [torch.randint(4, VOCAB, (1 + 3 * i,), generator=generator).tolist() for i in range(number)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_reads_padded_batches_as_single_texts(kind: str) -> None:
    model = built(kind, "encoder")
    assert isinstance(model, Encoder)
    assert not model.causal
    ids = torch.randint(VOCAB, (3, 9))
    model.packing = "on"
    packed = model(ids, MASK)
    model.packing = "off"
    padded = model(ids, MASK)
    torch.testing.assert_close(packed.to_padded()[MASK], padded.to_padded()[MASK], atol=1e-5, rtol=1e-4)
    pooler_position = torch.zeros(3, dtype=torch.long)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = model(ids[row : row + 1, :length], torch.ones(1, length, dtype=torch.bool))
        torch.testing.assert_close(alone.to_padded()[0], packed.to_padded()[row, :length], atol=1e-5, rtol=1e-4)
        mean = model.pooler(alone, pooler_position[:1])[0]
        torch.testing.assert_close(mean, alone.to_padded()[0].mean(0))
        for hidden in (packed, padded):
            torch.testing.assert_close(mean, model.pooler(hidden, pooler_position)[row], atol=1e-5, rtol=1e-4)


def test_the_mean_of_what_has_no_mask() -> None:
    x = torch.randn(2, 5, 4)
    actual = MeanPooler()(HiddenStates(x, PaddedLayout(2, 5)), torch.zeros(2, dtype=torch.long))
    torch.testing.assert_close(actual, x.mean(1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_language_model_generates_as_its_whole_logits_say(kind: str) -> None:
    """Greedy, text for text in a batch of unequal lengths; the next token is the argmax of one uncached pass."""
    model = built(kind, "decoder")
    assert isinstance(model, Decoder)
    assert model.causal
    prompts = texts(4)
    actual = complete(model, prompts, max_new_tokens=8)
    for prompt, new in zip(prompts, actual, strict=True):
        assert len(new) == 8
        for number, token in enumerate(new):
            ids = torch.tensor([[*prompt, *new[:number]]])
            hidden = model(ids, torch.ones_like(ids, dtype=torch.bool))
            assert model.logits(hidden.to_padded())[0, -1].argmax() == token


@pytest.mark.parametrize("kind", KINDS)
def test_beams_of_a_language_model_are_scored_as_one_pass_scores_them(kind: str) -> None:
    model = built(kind, "decoder")
    prompts = texts(3)
    session = DecoderSession(model, 3, 30)
    with torch.no_grad():
        actual = beam_search(
            session,
            session.step(*left_pad(prompts)),
            max_new_tokens=6,
            eos_ids=(END,),
            params=BeamParams(num_beams=4, alpha=0.0),
        )
        for prompt, hypotheses in zip(prompts, actual, strict=True):
            assert len(hypotheses) == 4
            for hypothesis in hypotheses:
                ids = torch.tensor([[*prompt, *hypothesis.tokens]])
                logits = model.logits(model(ids, torch.ones_like(ids, dtype=torch.bool)).to_padded())[0]
                log_prob = logits.log_softmax(-1)[range(len(prompt) - 1, ids.shape[1] - 1), ids[0, len(prompt) :]].sum()
                assert hypothesis.score == pytest.approx(float(log_prob), abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_language_model_sees_no_later_token(kind: str) -> None:
    model = built(kind, "decoder")
    ids = torch.randint(VOCAB, (3, 9))
    changed = ids.clone()
    changed[:, 3] = (changed[:, 3] + 1) % VOCAB
    with torch.no_grad():
        before, after = (model.logits(model(each, MASK).to_padded()) for each in (ids, changed))
    assert torch.equal(before[:, :3][MASK[:, :3]], after[:, :3][MASK[:, :3]])
    assert (before[:2, 3] - after[:2, 3]).abs().amax(-1).min() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_decoder_writes_what_its_whole_logits_say(kind: str) -> None:
    """One beam over caches, in a batch of sources of unequal length, against an uncached pass for each token."""
    model = built(kind, "encoder_decoder")
    assert isinstance(model, EncoderDecoder)
    ids = torch.randint(4, VOCAB, (3, 9))
    params = Seq2SeqParams(
        start_id=1, end_id=END, suppressed_ids=(1,), beam=BeamParams(num_beams=1), max_extra_tokens=6
    )
    hypotheses = generate_targets(model, ids, MASK, params)
    assert {len(one) for one in hypotheses} == {1}
    for row, length in enumerate(LENGTHS.tolist()):
        new = hypotheses[row][0].tokens
        assert new[-1] == END or len(new) == length + 6
        for number, token in enumerate(new):
            target = torch.tensor([[1, *new[:number]]])
            hidden = model(
                ids[row : row + 1, :length],
                torch.ones(1, length, dtype=torch.bool),
                target,
                torch.ones_like(target, dtype=torch.bool),
            )
            logits = model.logits(hidden.to_padded())[0, -1].index_fill(0, torch.tensor([1]), -torch.inf)
            assert logits.argmax() == token
    wider = generate_targets(
        model,
        ids,
        MASK,
        Seq2SeqParams(start_id=1, end_id=END, suppressed_ids=(1,), beam=BeamParams(num_beams=4), max_extra_tokens=6),
    )
    assert all(best_tokens(one, END) is not None and len(one) == 4 for one in wider)


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_decoder_is_the_same_packed_and_padded(kind: str) -> None:
    model = built(kind, "encoder_decoder")
    source, target = torch.randint(VOCAB, (3, 9)), torch.randint(VOCAB, (3, 7))
    target_mask = torch.arange(7)[None] < torch.tensor([2, 7, 5])[:, None]
    actual = []
    for packing in ("on", "off"):
        model.packing = packing
        model.zero_grad()
        hidden = model(source, MASK, target, target_mask)
        logits = model.logits(hidden.to_padded())[target_mask]
        logits.pow(2).sum().backward()
        actual.append([logits.detach(), *(p.grad for p in model.parameters())])
    for name, one, two in zip(["logits", *dict(model.named_parameters())], *actual, strict=True):
        assert one is not None, name
        assert two is not None, name
        torch.testing.assert_close(one, two, atol=1e-3, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}")


def test_the_papers_place_their_attention() -> None:
    """Luong's at the top, Bahdanau's at the bottom, ConvS2S's in every layer."""
    attending_layers = {
        kind: [number for number, layer in enumerate(built(kind, "encoder_decoder").decoder.layers) if layer.cross_attention]
        for kind in KINDS
    }  # fmt: skip
    assert attending_layers == {"luong": [1], "bahdanau": [0], "gated": [0, 1], "dilated": [0, 1], "separable": [0, 1]}


# --- the 2017 encoder


def small(**settings: object) -> Encoder:
    sizes = {"vocab_size": VOCAB, "d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 32, "max_seq_len": 40}
    return transformer_encoder(**{**sizes, "dropout": 0.0, **settings}).eval()


@pytest.mark.parametrize("packing", ["on", "off"])
@pytest.mark.parametrize(("layers", "window", "distance"), [(1, 2, 2), (2, 2, 4), (1, None, 20)])
def test_restricted_attention_reaches_its_neighbourhood(
    packing: str, layers: int, window: int | None, distance: int
) -> None:
    """The gradient of one token's vector: `window` others to either side a layer, and nothing else."""
    model = small(n_layers=layers, window=window, packing=packing)
    ids = torch.arange(20)[None]
    model(ids, torch.ones_like(ids, dtype=torch.bool)).to_padded()[0, 9].pow(2).sum().backward()
    reached = model.embeddings.token.weight.grad.abs().sum(-1).nonzero().flatten().tolist()
    assert reached == [position for position in range(20) if abs(position - 9) <= distance]


def test_a_wide_window_is_no_window() -> None:
    near, whole = small(window=9), small()
    near.load_state_dict(whole.state_dict())
    ids = torch.randint(VOCAB, (3, 9))
    torch.testing.assert_close(near(ids, MASK).tokens, whole(ids, MASK).tokens)


def test_the_encoder_is_that_of_the_whole_transformer() -> None:
    """The same weights give the same memory."""
    from protoformer.models.transformer import transformer

    sizes = {"vocab_size": VOCAB, "d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 32, "max_seq_len": 40}
    whole = transformer(**sizes).eval()
    alone = transformer_encoder(**sizes).eval()
    state = {
        name.replace("encoder.", "stack.", 1): tensor
        for name, tensor in whole.state_dict().items()
        if name.startswith(("embeddings.", "encoder."))
    }
    alone.load_state_dict(state)
    ids = torch.randint(VOCAB, (3, 9))
    expected: Tensor = whole.encode(ids, MASK).tokens
    actual = alone(ids, MASK)
    assert isinstance(actual.layout, PackedLayout)
    assert torch.equal(actual.tokens, expected)
