"""Choosing and going on: token for token what `transformers` gives, and what each option promises."""

import pytest
import torch
import transformers
from torch import nn

from protoformer.decoding.beam import Beam, search
from protoformer.decoding.choosing import Choosing, likeliest, nucleus
from protoformer.decoding.generation import complete, generate
from protoformer.decoding.reading import DecoderReader, side_by_side
from protoformer.errors import ConfigurationError
from protoformer.models import weights
from protoformer.models.decoder import Decoder
from protoformer.models.gpt import gpt
from protoformer.models.published.gpt import Gpt2Weights

VOCAB, POSITIONS, END = 60, 48, 7


@pytest.fixture(scope="module")
def pair() -> tuple[Decoder, transformers.GPT2LMHeadModel]:
    """The same random GPT-2, theirs and ours; sharp enough that no two tokens are as likely."""
    torch.manual_seed(3)
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=VOCAB, n_positions=POSITIONS, bos_token_id=END, eos_token_id=END
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    for name, parameter in theirs.named_parameters():
        nn.init.normal_(parameter, mean=float("ln" in name and name.endswith("weight")), std=0.3)
    sizes = {"vocab_size": VOCAB, "d_model": 32, "n_layers": 2, "n_heads": 4, "d_ff": 128, "max_seq_len": POSITIONS}
    ours = gpt(**sizes, norm="pre").eval()
    weights.put(ours, Gpt2Weights().read(theirs.state_dict())[0], "theirs")
    return ours, theirs


def prompts(n: int = 100) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 20, (n,), generator=generator).tolist()
    return [torch.randint(VOCAB, (length,), generator=generator).tolist() for length in lengths]


def by_theirs(theirs: transformers.GPT2LMHeadModel, prompt: list[int], **options: object) -> list[int]:
    ids = torch.tensor([prompt])
    found = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, pad_token_id=END, **options)
    return [token for token in found[0, len(prompt) :].tolist() if token != END]


@pytest.mark.parametrize("penalty", [1.0, 1.4])
def test_the_likeliest_tokens_equal_transformers_and_a_batch_equals_one_by_one(pair: tuple, penalty: float) -> None:
    ours, theirs = pair
    choosing = Choosing(repetition_penalty=penalty)
    together = complete(ours, prompts(), max_new=20, choosing=choosing, end={END})
    assert together == [by_theirs(theirs, prompt, do_sample=False, repetition_penalty=penalty) for prompt in prompts()]
    assert together[:20] == [
        complete(ours, [one], max_new=20, choosing=choosing, end={END})[0] for one in prompts()[:20]
    ]
    assert len({tuple(text) for text in together}) > 50  # not one text over and over


@pytest.mark.parametrize("beams", [1, 2, 4])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize(
    ("stopping", "theirs_word"), [("first", True), ("best_possible", False), ("exhaustive", "never")]
)
def test_beams_equal_transformers(pair: tuple, beams: int, alpha: float, stopping: str, theirs_word: object) -> None:
    ours, theirs = pair
    texts = prompts(12)
    reader = DecoderReader(ours, len(texts), 48)
    with torch.no_grad():
        logits = reader.read(*side_by_side(texts))
    beam = Beam(beams=beams, alpha=alpha, stopping=stopping)  # type: ignore[arg-type]
    found = search(reader, logits, max_new=20, end={END}, beam=beam)
    for prompt, ways in zip(texts, found, strict=True):
        expected = by_theirs(
            theirs, prompt, num_beams=beams, length_penalty=alpha, early_stopping=theirs_word, do_sample=False
        )
        assert [token for token in ways[0].tokens if token != END] == expected
        assert [way.score for way in ways] == sorted((way.score for way in ways), reverse=True)
        assert len({tuple(way.tokens) for way in ways}) == len(ways)


def test_a_beam_finds_what_greed_misses_and_scores_are_log_probabilities(pair: tuple) -> None:
    ours, _ = pair
    texts = prompts(30)
    totals = {}
    for beams in (1, 6):
        reader = DecoderReader(ours, len(texts), 48)
        with torch.no_grad():
            found = search(
                reader, reader.read(*side_by_side(texts)), max_new=8, end=(), beam=Beam(beams=beams, alpha=0.0)
            )
        for prompt, ways in zip(texts, found, strict=True):
            ids = torch.tensor([prompt + ways[0].tokens])
            with torch.no_grad():
                logits = ours.logits(ours(ids, torch.ones_like(ids, dtype=torch.bool)).rectangle())[0]
            told = logits.log_softmax(-1)[range(len(prompt) - 1, ids.shape[1] - 1), ids[0, len(prompt) :]].sum()
            assert ways[0].score == pytest.approx(float(told), abs=1e-3)
        totals[beams] = sum(ways[0].score for ways in found)
    assert totals[6] > totals[1] + 1


def test_gnmt_penalty_and_texts_with_limits_of_their_own(pair: tuple) -> None:
    ours, _ = pair
    assert Beam(alpha=0.6, length_penalty="gnmt").penalty(7) == pytest.approx(2**0.6)
    texts = prompts(3)
    reader = DecoderReader(ours, 3, 48)
    with torch.no_grad():
        found = search(reader, reader.read(*side_by_side(texts)), max_new=[2, 5, 1], end=(), beam=Beam(beams=3))
    assert [[len(way.tokens) for way in ways] for ways in found] == [[2] * 3, [5] * 3, [1] * 3]


def test_draws_depend_on_seed_and_prompt_alone(pair: tuple) -> None:
    ours, _ = pair
    choosing = Choosing(temperature=0.9, top_k=20, top_p=0.9)
    texts = prompts(10)
    first = complete(ours, texts, max_new=12, choosing=choosing, seed=5)
    assert first == complete(ours, texts, max_new=12, choosing=choosing, seed=5)
    assert first != complete(ours, texts, max_new=12, choosing=choosing, seed=6)
    assert first == [complete(ours, [text], max_new=12, choosing=choosing, seed=5)[0] for text in texts]


def test_draws_have_the_models_shares() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, -50.0]])
    generators = [torch.Generator().manual_seed(0)]
    counts = torch.zeros(5)
    for _ in range(20_000):
        counts[Choosing(temperature=2.0)(logits, [[]], generators)] += 1
    torch.testing.assert_close(counts / 20_000, (logits[0] / 2).softmax(-1), atol=0.01, rtol=0)


def test_filters_keep_what_they_say_and_equal_transformers() -> None:
    logits = torch.randn(40, VOCAB)
    for k in (1, 5, VOCAB, 1000):
        theirs = transformers.TopKLogitsWarper(min(k, VOCAB))(None, logits.clone())
        assert torch.equal(likeliest(logits, k), theirs)
    for p in (0.001, 0.3, 0.9, 1.0):
        kept = nucleus(logits, p).isfinite()
        theirs = transformers.TopPLogitsWarper(p)(None, logits.clone()).isfinite()
        assert torch.equal(kept, theirs) or p == 1.0
        assert kept.any(-1).all()
    assert nucleus(torch.tensor([[3.0, 3.0, 3.0, 3.0]]), 0.5).isfinite().sum() == 2


@pytest.mark.parametrize("more", [{}, {"end": {END}}])
def test_a_text_that_fills_the_positions_slides(pair: tuple, more: dict) -> None:
    """The last half is read anew; so it goes on as the same half would by itself."""
    ours, _ = pair
    long, short = prompts(8)[3] * 4, [5, 9]
    long = long[:40]
    together = complete(ours, [long, short], max_new=60, **more)
    assert together == [complete(ours, [text], max_new=60, **more)[0] for text in (long, short)]
    if not more:
        assert [len(text) for text in together] == [60, 60]
        # 24 of 40 are read, for which 24 new ones have room; with one more unread there are 49 tokens: the last 24 stay
        tokens = long[-24:] + together[0]
        assert complete(ours, [tokens[25:49]], max_new=11)[0] == tokens[49:60]


def test_it_streams_and_leaves_the_model_as_it_was(pair: tuple) -> None:
    ours, _ = pair
    ours.train()
    try:
        steps = generate(ours, prompts(3), max_new=4)
        assert [number for number, _ in next(steps)] == [0, 1, 2]
        assert not ours.training
        steps.close()
        assert ours.training
    finally:
        ours.eval()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_p": 0.0}, "top_p=0.0: over 0, and at most 1"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"top_p": float("nan")}, "top_p=nan"),
        ({"top_k": 0}, "top_k=0: at least 1"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty=0.0"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Choosing(**options)


def test_prompts_and_beams_that_cannot_be(pair: tuple) -> None:
    with pytest.raises(ConfigurationError, match="prompt 1 is empty"):
        complete(pair[0], [[1], []], max_new=3)
    with pytest.raises(ConfigurationError, match="max_new=0"):
        complete(pair[0], [[1]], max_new=0)
    with pytest.raises(ConfigurationError, match="beams=0"):
        Beam(beams=0)
