"""Answers behind shared prefixes: the tokens that plain decoding of each prompt writes."""

import random
from collections.abc import Callable

import pytest

from protoformer.decoding.beam import BeamParams, beam_search
from protoformer.decoding.generation import complete
from protoformer.decoding.session import DecoderSession, left_pad
from protoformer.errors import DataError
from protoformer.incontext.answers import AnswerParams, AnswerWriter
from protoformer.models.decoder import Decoder
from protoformer.models.gpt import gpt
from protoformer.models.rnn import rnn

VOCAB, POSITIONS, STOPS = 40, 48, (3, 4)
GPT = {"vocab_size": VOCAB, "d_model": 32, "n_layers": 2, "n_heads": 4, "d_ff": 64, "max_seq_len": POSITIONS}
MODELS: dict[str, Callable[[], Decoder]] = {
    "dense": lambda: gpt(**GPT, norm="pre", init_std=0.3),
    "banded": lambda: gpt(**GPT, norm="pre", attention=["dense", "banded"], band=5, init_std=0.3),
    "rotary": lambda: gpt(**GPT, positions="rotary", init_std=0.3),
    "rnn": lambda: rnn(vocab_size=VOCAB, d_model=32, n_layers=2, architecture="decoder", max_seq_len=POSITIONS),
}


def prompts(draw: random.Random, prefix: list[int]) -> list[list[int]]:
    return [[*prefix, *(draw.randrange(VOCAB) for _ in range(draw.randint(1, 12)))] for _ in range(6)]


@pytest.mark.parametrize("name", MODELS)
def test_greedy_answers_equal_those_of_each_prompt_alone(name: str) -> None:
    model, draw = MODELS[name]().eval(), random.Random(0)
    writer = AnswerWriter(model, AnswerParams(10, STOPS), suppressed_ids={7})
    prefix = [draw.randrange(VOCAB) for _ in range(20)]
    for beginning in (prefix, prefix, prefix[:12], []):  # kept from batch to batch, cut back, left
        batch = prompts(draw, beginning)
        expected = [
            complete(model, [prompt], max_new_tokens=10, eos_ids=STOPS, suppressed_ids={7})[0] for prompt in batch
        ]
        assert writer.answer(batch) == expected


def test_a_beam_search_behind_a_prefix_equals_one_of_the_whole_prompt() -> None:
    model, draw = MODELS["dense"]().eval(), random.Random(1)
    prompt = [draw.randrange(VOCAB) for _ in range(20)]
    session = DecoderSession(model, 1, POSITIONS)
    logits = session.step(*left_pad([prompt]))
    ((best, *_),) = beam_search(
        session, logits, max_new_tokens=8, eos_ids=STOPS, params=BeamParams(num_beams=4, alpha=0.6)
    )
    expected = [token for token in best.tokens if token not in STOPS]
    assert AnswerWriter(model, AnswerParams(8, STOPS, num_beams=4)).answer([prompt]) == [expected]


def test_a_prompt_without_room_for_its_answer_is_refused() -> None:
    writer = AnswerWriter(MODELS["dense"]().eval(), AnswerParams(10))
    with pytest.raises(DataError, match="a prompt of 40 tokens and 10 for its answer: the model has 48 positions"):
        writer.answer([[1] * 40])


@pytest.mark.parametrize("cached_tokens", [1, 150])
def test_the_budget_of_cached_tokens_is_kept_and_changes_no_answer(
    cached_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, draw = MODELS["dense"]().eval(), random.Random(2)
    batches = [prompts(draw, [draw.randrange(VOCAB) for _ in range(length)]) for length in (20, 0, 9)]
    expected = [AnswerWriter(model, AnswerParams(10, STOPS)).answer(batch) for batch in batches]
    cached = []
    init_caches = model.init_caches
    monkeypatch.setattr(
        model, "init_caches", lambda rows, length: cached.append((rows, length)) or init_caches(rows, length)
    )
    writer = AnswerWriter(model, AnswerParams(10, STOPS, cached_tokens=cached_tokens))
    assert [writer.answer(batch) for batch in batches] == expected
    assert all(rows == 1 or rows * length <= cached_tokens for rows, length in cached)
    assert all(length <= POSITIONS for _, length in cached)
    assert (max(rows for rows, _ in cached) > 1) is (cached_tokens > 1)
