"""Sampling and beam search: token for token equal to `transformers`, and each option by itself."""

import pytest
import torch
import transformers
from torch import nn

from protoformer.decoding.beam import BeamParams, beam_search
from protoformer.decoding.generation import complete, generate
from protoformer.decoding.sampling import SamplingParams, sample, top_k_filter, top_p_filter
from protoformer.decoding.session import DecoderSession, left_pad
from protoformer.errors import ConfigurationError
from protoformer.models import weights
from protoformer.models.decoder import Decoder
from protoformer.models.gpt import gpt
from protoformer.models.hf.gpt import Gpt2Weights, GptWeights

VOCAB, POSITIONS, END = 60, 48, 7


@pytest.fixture(scope="module")
def pair() -> tuple[Decoder, transformers.GPT2LMHeadModel]:
    """The same random GPT-2, theirs and ours; with weights so large that no two tokens are equally probable."""
    torch.manual_seed(3)
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=VOCAB, n_positions=POSITIONS, bos_token_id=END, eos_token_id=END
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    for name, parameter in theirs.named_parameters():
        nn.init.normal_(parameter, mean=float("ln" in name and name.endswith("weight")), std=0.3)
    sizes = {"vocab_size": VOCAB, "d_model": 32, "n_layers": 2, "n_heads": 4, "d_ff": 128, "max_seq_len": POSITIONS}
    ours = gpt(**sizes, norm="pre").eval()
    weights.load_into(ours, Gpt2Weights().from_hf(theirs.state_dict())[0], "theirs")
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
    weights.load_into(ours, GptWeights().from_hf(theirs.state_dict())[0], "theirs")
    return ours, theirs


def prompts(n: int = 100) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 20, (n,), generator=generator).tolist()
    return [torch.randint(VOCAB, (length,), generator=generator).tolist() for length in lengths]


def generated_by(theirs: transformers.GPT2LMHeadModel, prompt: list[int], **options: object) -> list[int]:
    ids = torch.tensor([prompt])
    settings = {"max_new_tokens": 20, "pad_token_id": END, **options}
    results = theirs.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    return [token for token in results[0, len(prompt) :].tolist() if token != END]


@pytest.mark.parametrize(("penalty", "count"), [(1.0, 100), (1.4, 30)])
def test_greedy_equals_transformers_and_a_batch_equals_single_prompts(pair: tuple, penalty: float, count: int) -> None:
    ours, theirs = pair
    sampling = SamplingParams(repetition_penalty=penalty)
    together = complete(ours, prompts(count), max_new_tokens=12, sampling=sampling, eos_ids={END})
    settings = {"do_sample": False, "repetition_penalty": penalty, "max_new_tokens": 12}
    assert together == [generated_by(theirs, prompt, **settings) for prompt in prompts(count)]
    assert together[:20] == [
        complete(ours, [one], max_new_tokens=12, sampling=sampling, eos_ids={END})[0] for one in prompts(count)[:20]
    ]
    assert len({tuple(text) for text in together}) > count / 2  # not the same text each time


def test_greedy_gpt_equals_transformers(first_pair: tuple) -> None:
    ours, theirs = first_pair
    together = complete(ours, prompts(), max_new_tokens=8, eos_ids={END})
    settings = {"do_sample": False, "eos_token_id": END, "max_new_tokens": 8}
    assert together == [generated_by(theirs, prompt, **settings) for prompt in prompts()]
    assert len({tuple(text) for text in together}) > 50


@pytest.mark.parametrize("which", ["pair", "first_pair"])
def test_beam_search_of_100_prompts_equals_transformers(which: str, request: pytest.FixtureRequest) -> None:
    ours, theirs = request.getfixturevalue(which)
    texts = prompts()
    session = DecoderSession(ours, len(texts), 48)
    with torch.no_grad():
        logits = session.step(*left_pad(texts))
    results = beam_search(session, logits, max_new_tokens=6, eos_ids={END}, params=BeamParams(num_beams=3, alpha=0.7))
    for prompt, hypotheses in zip(texts, results, strict=True):
        expected = generated_by(
            theirs, prompt, num_beams=3, length_penalty=0.7, max_new_tokens=6, do_sample=False, eos_token_id=END
        )
        assert [token for token in hypotheses[0].tokens if token != END] == expected


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("attention", [["dense"], ["dense", "banded"]])
@pytest.mark.parametrize("rows", [1, 3, 7])
def test_cached_logits_equal_one_pass(norm: str, attention: list[str], rows: int) -> None:
    """Step by step, with and without padding, with few rows and with as count as transpose the matrix product."""
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCAB, "d_model": 32, "n_layers": 3, "n_heads": 4, "d_ff": 64, "max_seq_len": POSITIONS}
    ours = gpt(**sizes, norm=norm, attention=attention, band=5, init_std=0.3).eval()  # type: ignore[arg-type]
    for initial in (prompts(rows), [[n + 1] * 4 for n in range(rows)]):
        texts = [list(text) for text in initial]
        session = DecoderSession(ours, rows, 40)
        with torch.inference_mode():
            logits = session.step(*left_pad(texts))
            for step in range(4):
                for row, text in enumerate(texts):
                    ids = torch.tensor([text])
                    expected = ours.logits(ours(ids, torch.ones_like(ids, dtype=torch.bool)).to_padded()[0, -1])
                    torch.testing.assert_close(logits[row], expected, atol=2e-5, rtol=1e-4)
                    text.append((7 * step + row) % VOCAB)
                assert ours.stack.supports_fast_decode(ids.device)
                logits = session.step(torch.tensor([[text[-1]] for text in texts]))


def test_cache_size_and_in_place_writes(pair: tuple) -> None:
    """2 x d_model numbers a layer and position, written in row as the text grows."""
    ours, _ = pair
    session = DecoderSession(ours, 6, 30)
    tensors = [tensor for cache in session.caches for tensor in (cache.keys, cache.values)]  # type: ignore[attr-defined]
    assert sum(tensor.nbytes for tensor in tensors) == 2 * 32 * 2 * 6 * 30 * 4
    pointers = [tensor.data_ptr() for tensor in tensors]
    with torch.inference_mode():
        session.step(*left_pad(prompts(6)))
        for _ in range(5):
            session.step(torch.ones(6, 1, dtype=torch.long))
        session.select(torch.tensor([1, 0, 2, 5, 4, 3]))
    now = [tensor.data_ptr() for cache in session.caches for tensor in (cache.keys, cache.values)]  # type: ignore[attr-defined]
    assert now == pointers


def test_fast_decode_is_off_with_gradients_or_autocast(pair: tuple) -> None:
    ours, _ = pair
    assert not ours.stack.supports_fast_decode(torch.device("cpu"))  # gradients are on
    with torch.no_grad(), torch.autocast("cpu"):
        assert not ours.stack.supports_fast_decode(torch.device("cpu"))


@pytest.mark.parametrize("beams", [1, 2, 4])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize(
    ("early_stopping", "hf_early_stopping"), [("first", True), ("best_possible", False), ("exhaustive", "never")]
)
def test_beam_search_equals_transformers(
    pair: tuple, beams: int, alpha: float, early_stopping: str, hf_early_stopping: object
) -> None:
    ours, theirs = pair
    texts = prompts(5)
    session = DecoderSession(ours, len(texts), 48)
    with torch.no_grad():
        logits = session.step(*left_pad(texts))
    params = BeamParams(num_beams=beams, alpha=alpha, early_stopping=early_stopping)  # type: ignore[arg-type]
    results = beam_search(session, logits, max_new_tokens=20, eos_ids={END}, params=params)
    for prompt, hypotheses in zip(texts, results, strict=True):
        expected = generated_by(
            theirs, prompt, num_beams=beams, length_penalty=alpha, early_stopping=hf_early_stopping, do_sample=False
        )
        assert [token for token in hypotheses[0].tokens if token != END] == expected
        assert [hypothesis.score for hypothesis in hypotheses] == sorted(
            (hypothesis.score for hypothesis in hypotheses), reverse=True
        )
        assert len({tuple(hypothesis.tokens) for hypothesis in hypotheses}) == len(hypotheses)


def test_beam_search_beats_greedy_and_scores_are_log_probabilities(pair: tuple) -> None:
    ours, _ = pair
    texts = prompts(30)
    totals = {}
    for beams in (1, 6):
        session = DecoderSession(ours, len(texts), 48)
        with torch.no_grad():
            results = beam_search(
                session,
                session.step(*left_pad(texts)),
                max_new_tokens=8,
                eos_ids=(),
                params=BeamParams(num_beams=beams, alpha=0.0),
            )
        for prompt, hypotheses in zip(texts, results, strict=True):
            ids = torch.tensor([prompt + hypotheses[0].tokens])
            with torch.no_grad():
                logits = ours.logits(ours(ids, torch.ones_like(ids, dtype=torch.bool)).to_padded())[0]
            log_prob = logits.log_softmax(-1)[range(len(prompt) - 1, ids.shape[1] - 1), ids[0, len(prompt) :]].sum()
            assert hypotheses[0].score == pytest.approx(float(log_prob), abs=1e-3)
        totals[beams] = sum(hypotheses[0].score for hypotheses in results)
    assert totals[6] > totals[1] + 1


def test_gnmt_penalty_and_a_limit_for_each_text(pair: tuple) -> None:
    ours, _ = pair
    assert BeamParams(alpha=0.6, length_penalty="gnmt").penalty(7) == pytest.approx(2**0.6)
    texts = prompts(3)
    session = DecoderSession(ours, 3, 48)
    with torch.no_grad():
        results = beam_search(
            session,
            session.step(*left_pad(texts)),
            max_new_tokens=[2, 5, 1],
            eos_ids=(),
            params=BeamParams(num_beams=3),
        )
    assert [[len(hypothesis.tokens) for hypothesis in hypotheses] for hypotheses in results] == [
        [2] * 3,
        [5] * 3,
        [1] * 3,
    ]


def test_samples_depend_on_seed_and_prompt_alone(pair: tuple) -> None:
    ours, _ = pair
    sampling = SamplingParams(temperature=0.9, top_k=20, top_p=0.9)
    texts = prompts(10)
    first = complete(ours, texts, max_new_tokens=12, sampling=sampling, seed=5)
    assert first == complete(ours, texts, max_new_tokens=12, sampling=sampling, seed=5)
    assert first != complete(ours, texts, max_new_tokens=12, sampling=sampling, seed=6)
    assert first == [complete(ours, [text], max_new_tokens=12, sampling=sampling, seed=5)[0] for text in texts]


def test_samples_have_the_models_distribution() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, -50.0]])
    generators = [torch.Generator().manual_seed(0)]
    counts = torch.zeros(5)
    for _ in range(20_000):
        counts[sample(logits, SamplingParams(temperature=2.0), [[]], generators)] += 1
    torch.testing.assert_close(counts / 20_000, (logits[0] / 2).softmax(-1), atol=0.01, rtol=0)


def test_top_k_and_top_p_equal_transformers() -> None:
    logits = torch.randn(40, VOCAB)
    for k in (1, 5, VOCAB, 1000):
        theirs = transformers.TopKLogitsWarper(min(k, VOCAB))(None, logits.clone())
        assert torch.equal(top_k_filter(logits, k), theirs)
    for p in (0.001, 0.3, 0.9, 1.0):
        in_nucleus = top_p_filter(logits, p).isfinite()
        theirs = transformers.TopPLogitsWarper(p)(None, logits.clone()).isfinite()
        assert torch.equal(in_nucleus, theirs) or p == 1.0
        assert in_nucleus.any(-1).all()
    assert top_p_filter(torch.tensor([[3.0, 3.0, 3.0, 3.0]]), 0.5).isfinite().sum() == 2


@pytest.mark.parametrize("options", [{}, {"eos_ids": {END}}])
def test_sliding_window(pair: tuple, options: dict) -> None:
    """The last half is read again, so it is continued as that half would be by itself."""
    ours, _ = pair
    long, short = prompts(8)[3] * 4, [5, 9]
    long = long[:40]
    together = complete(ours, [long, short], max_new_tokens=60, **options)
    assert together == [complete(ours, [text], max_new_tokens=60, **options)[0] for text in (long, short)]
    if not options:
        assert [len(text) for text in together] == [60, 60]
        # 24 of 40 tokens are read and leave 24 positions; the next token is the 49th: the last 24 are kept
        tokens = long[-24:] + together[0]
        assert complete(ours, [tokens[25:49]], max_new_tokens=11)[0] == tokens[49:60]


def test_generate_streams_and_restores_training_mode(pair: tuple) -> None:
    ours, _ = pair
    ours.train()
    try:
        steps = generate(ours, prompts(3), max_new_tokens=4)
        assert [index for index, _ in next(steps)] == [0, 1, 2]
        assert not ours.training
        steps.close()
        assert ours.training
    finally:
        ours.eval()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_p": 0.0}, "top_p=0.0: above 0, and at most 1"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"top_p": float("nan")}, "top_p=nan"),
        ({"top_k": 0}, "top_k=0: at least 1"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty=0.0"),
    ],
)
def test_sampling_params_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SamplingParams(**options)


def test_empty_prompts_and_values_out_of_range(pair: tuple) -> None:
    with pytest.raises(ConfigurationError, match="prompt 2 is empty"):
        complete(pair[0], [[1], []], max_new_tokens=3)
    with pytest.raises(ConfigurationError, match="max_new_tokens=0"):
        complete(pair[0], [[1]], max_new_tokens=0)
    with pytest.raises(ConfigurationError, match="beams=0"):
        BeamParams(num_beams=0)
