"""Choosing and going on: token for token what `transformers` gives, and what each option promises."""

import pytest
import torch
import transformers
from torch import nn

from protoformer.blocks.fast_decode import can_step
from protoformer.decoding.beam import Beam, search
from protoformer.decoding.generation import complete, generate
from protoformer.decoding.sampling import Choosing, likeliest, nucleus
from protoformer.decoding.session import DecoderReader, side_by_side
from protoformer.errors import ConfigurationError
from protoformer.models import weights
from protoformer.models.decoder import Decoder
from protoformer.models.gpt import gpt
from protoformer.models.hf.gpt import Gpt2Weights, GptWeights

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


@pytest.fixture(scope="module")
def first_pair() -> tuple[Decoder, transformers.OpenAIGPTLMHeadModel]:
    """The same random GPT, theirs and ours."""
    torch.manual_seed(4)
    config = transformers.OpenAIGPTConfig(n_embd=32, n_layer=2, n_head=4, vocab_size=VOCAB, n_positions=POSITIONS)
    theirs = transformers.OpenAIGPTLMHeadModel(config).eval()
    for name, parameter in theirs.named_parameters():
        nn.init.normal_(parameter, mean=float("ln" in name and name.endswith("weight")), std=0.3)
    ours = gpt(**GptWeights().sizes(config.to_dict())).eval()
    weights.put(ours, GptWeights().read(theirs.state_dict())[0], "theirs")
    return ours, theirs


def prompts(n: int = 100) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 20, (n,), generator=generator).tolist()
    return [torch.randint(VOCAB, (length,), generator=generator).tolist() for length in lengths]


def by_theirs(theirs: transformers.GPT2LMHeadModel, prompt: list[int], **options: object) -> list[int]:
    ids = torch.tensor([prompt])
    how = {"max_new_tokens": 20, "pad_token_id": END, **options}
    found = theirs.generate(ids, attention_mask=torch.ones_like(ids), **how)
    return [token for token in found[0, len(prompt) :].tolist() if token != END]


@pytest.mark.parametrize(("penalty", "many"), [(1.0, 100), (1.4, 30)])
def test_the_likeliest_tokens_equal_transformers_and_a_batch_equals_one_by_one(
    pair: tuple, penalty: float, many: int
) -> None:
    ours, theirs = pair
    choosing = Choosing(repetition_penalty=penalty)
    together = complete(ours, prompts(many), max_new=12, choosing=choosing, end={END})
    how = {"do_sample": False, "repetition_penalty": penalty, "max_new_tokens": 12}
    assert together == [by_theirs(theirs, prompt, **how) for prompt in prompts(many)]
    assert together[:20] == [
        complete(ours, [one], max_new=12, choosing=choosing, end={END})[0] for one in prompts(many)[:20]
    ]
    assert len({tuple(text) for text in together}) > many / 2  # not one text over and over


def test_gpts_likeliest_tokens_equal_transformers(first_pair: tuple) -> None:
    ours, theirs = first_pair
    together = complete(ours, prompts(), max_new=8, end={END})
    how = {"do_sample": False, "eos_token_id": END, "max_new_tokens": 8}
    assert together == [by_theirs(theirs, prompt, **how) for prompt in prompts()]
    assert len({tuple(text) for text in together}) > 50


@pytest.mark.parametrize("which", ["pair", "first_pair"])
def test_beams_of_a_hundred_prompts_equal_transformers(which: str, request: pytest.FixtureRequest) -> None:
    ours, theirs = request.getfixturevalue(which)
    texts = prompts()
    reader = DecoderReader(ours, len(texts), 48)
    with torch.no_grad():
        logits = reader.read(*side_by_side(texts))
    found = search(reader, logits, max_new=6, end={END}, beam=Beam(beams=3, alpha=0.7))
    for prompt, ways in zip(texts, found, strict=True):
        expected = by_theirs(
            theirs, prompt, num_beams=3, length_penalty=0.7, max_new_tokens=6, do_sample=False, eos_token_id=END
        )
        assert [token for token in ways[0].tokens if token != END] == expected


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("attention", [["dense"], ["dense", "banded"]])
@pytest.mark.parametrize("rows", [1, 3, 7])
def test_a_step_says_what_one_pass_says(norm: str, attention: list[str], rows: int) -> None:
    """Step by step, with and without padding, few rows and as many as turn the product around."""
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCAB, "d_model": 32, "n_layers": 3, "n_heads": 4, "d_ff": 64, "max_seq_len": POSITIONS}
    ours = gpt(**sizes, norm=norm, attention=attention, band=5, init_std=0.3).eval()  # type: ignore[arg-type]
    for begun in (prompts(rows), [[n + 1] * 4 for n in range(rows)]):
        texts = [list(text) for text in begun]
        reader = DecoderReader(ours, rows, 40)
        with torch.inference_mode():
            said = reader.read(*side_by_side(texts))
            for step in range(4):
                for place, text in enumerate(texts):
                    ids = torch.tensor([text])
                    whole = ours.logits(ours(ids, torch.ones_like(ids, dtype=torch.bool)).to_padded()[0, -1])
                    torch.testing.assert_close(said[place], whole, atol=2e-5, rtol=1e-4)
                    text.append((7 * step + place) % VOCAB)
                assert can_step(ours.stack, ids.device)
                said = reader.read(torch.tensor([[text[-1]] for text in texts]))


def test_a_cache_takes_the_room_that_was_made_and_no_more(pair: tuple) -> None:
    """2 x d_model numbers a layer and position, written in place as the text grows."""
    ours, _ = pair
    reader = DecoderReader(ours, 6, 30)
    held = [part for cache in reader.caches for part in (cache.keys, cache.values)]  # type: ignore[attr-defined]
    assert sum(part.nbytes for part in held) == 2 * 32 * 2 * 6 * 30 * 4
    places = [part.data_ptr() for part in held]
    with torch.inference_mode():
        reader.read(*side_by_side(prompts(6)))
        for _ in range(5):
            reader.read(torch.ones(6, 1, dtype=torch.long))
        reader.select(torch.tensor([1, 0, 2, 5, 4, 3]))
    now = [part.data_ptr() for cache in reader.caches for part in (cache.keys, cache.values)]  # type: ignore[attr-defined]
    assert now == places


def test_training_and_gradients_take_the_way_that_has_them(pair: tuple) -> None:
    ours, _ = pair
    assert not can_step(ours.stack, torch.device("cpu"))  # gradients are on
    with torch.no_grad(), torch.autocast("cpu"):
        assert not can_step(ours.stack, torch.device("cpu"))


@pytest.mark.parametrize("beams", [1, 2, 4])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize(
    ("stopping", "theirs_word"), [("first", True), ("best_possible", False), ("exhaustive", "never")]
)
def test_beams_equal_transformers(pair: tuple, beams: int, alpha: float, stopping: str, theirs_word: object) -> None:
    ours, theirs = pair
    texts = prompts(5)
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
                logits = ours.logits(ours(ids, torch.ones_like(ids, dtype=torch.bool)).to_padded())[0]
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
