"""What a decoder's tokens see: never a later one; of a banded layer exactly the band; from caches the same as in one pass."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from protoformer.blocks.kernels import packed_attention
from protoformer.models.decoder import Decoder
from protoformer.models.gpt import gpt

VOCAB, SEQ, BAND = 40, 14, 4
PATTERNS = (["dense"], ["banded"], ["dense", "banded"], ["banded", "banded", "dense"])
WAYS = ("packed", "tiled", "alone", "rectangle")


@pytest.fixture(params=WAYS)
def packing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every way that attention is computed in: packed sequences in groups, in tiles of three queries, one by one, or with
    their padding."""
    if request.param in ("tiled", "alone"):
        monkeypatch.setattr(packed_attention, "TILE_SIZE", 3 if request.param == "tiled" else 128)
        monkeypatch.setattr(packed_attention, "MAX_GROUPED_SIZE", 0 if request.param == "alone" else 1 << 14)
    return "off" if request.param == "rectangle" else "on"


def decoder(
    attention: list[str], packing: str = "auto", n_layers: int = 3, band: int = BAND, **more: object
) -> Decoder:
    sizes = {"vocab_size": VOCAB, "d_model": 16, "n_heads": 2, "d_ff": 32, "max_seq_len": 2 * SEQ, "norm": "pre"}
    return gpt(**sizes, n_layers=n_layers, attention=attention, band=band, packing=packing, init_std=0.3, **more).eval()


def logits(model: Decoder, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    with torch.no_grad():
        return model.logits(model(ids, mask).to_padded())


def changed_at(ids: Tensor, position: int) -> Tensor:
    other = ids.clone()
    other[:, position] = (other[:, position] + 1) % VOCAB
    return other


@pytest.mark.parametrize("attention", PATTERNS)
@pytest.mark.parametrize("training", [False, True])
def test_a_changed_token_leaves_all_logits_before_it(attention: list[str], training: bool, packing: str) -> None:
    """To the bit, whichever token it is, while training too (under the same draw of dropout)."""
    model = decoder(attention, packing, dropout=0.3).train(training)
    ids = torch.randint(VOCAB, (3, SEQ))
    mask = torch.arange(SEQ)[None] < torch.tensor([SEQ, 9, SEQ - 1])[:, None]

    def logits_of(token_ids: Tensor) -> Tensor:
        torch.manual_seed(5)
        return logits(model, token_ids, mask)

    before = logits_of(ids)
    for position in range(SEQ):
        after = logits_of(changed_at(ids, position))
        assert torch.equal(before[:, :position], after[:, :position])
        here = mask[:, position]
        assert (before[here, position] - after[here, position]).abs().amax(-1).min() > 1e-3


@pytest.mark.parametrize("attention", PATTERNS)
def test_a_changed_sequence_leaves_the_others(attention: list[str], packing: str) -> None:
    model = decoder(attention, packing)
    ids = torch.randint(VOCAB, (4, SEQ))
    mask = torch.arange(SEQ)[None] < torch.tensor([SEQ, 6, SEQ - 1, 7])[:, None]
    before = logits(model, ids, mask)
    for row in range(4):
        other = ids.clone()
        other[row] = torch.randint(VOCAB, (SEQ,))
        after, other_rows = logits(model, other, mask), torch.arange(4) != row
        assert torch.equal(before[other_rows][mask[other_rows]], after[other_rows][mask[other_rows]])
        assert not torch.equal(before[row], after[row])


def test_padding_is_not_read(packing: str) -> None:
    model = decoder(["dense", "banded"], packing)
    ids = torch.randint(VOCAB, (3, SEQ))
    for mask in (torch.arange(SEQ)[None] < torch.tensor([5, SEQ, 1])[:, None], torch.rand(3, SEQ) < 0.6):
        other = torch.where(mask, ids, torch.randint(VOCAB, ids.shape))
        assert torch.equal(logits(model, ids, mask)[mask], logits(model, other, mask)[mask])


def reached(model: Decoder, n_tokens: int) -> Tensor:
    """True where a query's vector has a gradient to the token that stands at a key's place."""
    ids = torch.arange(n_tokens)[None]
    hidden = model(ids, torch.ones_like(ids, dtype=torch.bool)).to_padded()[0]
    table = model.embeddings.token.weight
    rows = []
    for query in hidden:
        (gradient,) = torch.autograd.grad(query.square().sum(), table, retain_graph=True)
        rows.append(gradient[:n_tokens].abs().sum(-1) > 0)
    return torch.stack(rows)


@pytest.mark.parametrize("band", [1, 2, BAND, SEQ - 1, SEQ, 2 * SEQ])
def test_a_banded_layer_sees_exactly_its_band(band: int, packing: str) -> None:
    """Every token sees itself and the `band` - 1 before it."""
    attended = reached(decoder(["banded"], packing, n_layers=1, band=band), SEQ)
    expected = torch.tensor([[0 <= query - key < band for key in range(SEQ)] for query in range(SEQ)])
    assert torch.equal(attended, expected)


def test_a_dense_layer_sees_all_that_came_before(packing: str) -> None:
    attended = reached(decoder(["dense"], packing, n_layers=1), SEQ)
    assert torch.equal(attended, torch.ones(SEQ, SEQ, dtype=torch.bool).tril())


@pytest.mark.parametrize(
    ("attention", "sight"), [(["banded"], 3 * (BAND - 1) + 1), (["banded", "dense"], SEQ), (["dense", "banded"], SEQ)]
)
def test_bands_reach_further_layer_by_layer(attention: list[str], sight: int, packing: str) -> None:
    """Each banded layer adds `band` - 1 tokens to what is seen through it; one dense layer sees everything."""
    attended = reached(decoder(attention, packing, n_layers=3), SEQ)
    expected = torch.tensor([[0 <= query - key < sight for key in range(SEQ)] for query in range(SEQ)])
    assert torch.equal(attended, expected)


@pytest.mark.parametrize("attention", PATTERNS)
@pytest.mark.parametrize("cuts", [range(SEQ + 1), (0, 9, 10, 12, SEQ), (0, 2, 3, 11, SEQ), (0, SEQ)])
def test_caches_equal_one_pass(attention: list[str], cuts: tuple[int, ...], packing: str) -> None:
    """Token by token, or in stretches shorter and longer than the band."""
    model = decoder(attention, packing)
    ids = torch.randint(VOCAB, (2, SEQ))
    caches = model.init_caches(2, SEQ)
    with torch.no_grad():
        pieces = [model.logits(model.decode_step(ids[:, a:b], caches)) for a, b in pairwise(cuts)]
    torch.testing.assert_close(torch.cat(pieces, 1), logits(model, ids), atol=1e-5, rtol=0)


@pytest.mark.parametrize("attention", PATTERNS)
@pytest.mark.parametrize("step", [1, 3])
def test_caches_behind_padding_equal_each_prompt_alone(attention: list[str], step: int) -> None:
    """Prompts of unequal length, padded in front, longer and shorter than the band; then more tokens for each."""
    model = decoder(attention)
    lengths, more, longest = [9, BAND, 1, BAND + 1], 6, 9
    real = torch.arange(longest)[None] >= longest - torch.tensor(lengths)[:, None]
    ids = torch.randint(VOCAB, (len(lengths), longest + more))
    caches = model.init_caches(len(lengths), longest + more)
    with torch.no_grad():
        pieces = [model.decode_step(ids[:, :longest], caches, real)]
        pieces += [model.decode_step(ids[:, a : a + step], caches) for a in range(longest, longest + more, step)]
    together = model.logits(torch.cat(pieces, 1))
    for row, length in enumerate(lengths):
        alone = ids[row : row + 1, longest - length :]
        torch.testing.assert_close(together[row, longest - length :], logits(model, alone)[0], atol=1e-5, rtol=0)


def test_what_padding_holds_does_not_reach_the_caches() -> None:
    model = decoder(["dense", "banded"])
    real = torch.arange(6)[None] >= torch.tensor([[0], [4]])
    ids = torch.randint(VOCAB, (2, 9))
    other = torch.where(torch.cat([real, torch.ones(2, 3, dtype=torch.bool)], 1), ids, (ids + 1) % VOCAB)
    outputs = []
    for prompt_ids in (ids, other):
        caches = model.init_caches(2, 9)
        with torch.no_grad():
            first, later = (
                model.decode_step(prompt_ids[:, :6], caches, real),
                model.decode_step(prompt_ids[:, 6:], caches),
            )
        outputs.append((first[real], later))
    assert torch.equal(outputs[0][0], outputs[1][0])
    assert torch.equal(outputs[0][1], outputs[1][1])
