"""Texts in words: what is streamed is what is generated, letters of several tokens come whole, stop strings cut."""

import pytest
import torch

from protoformer.decoding.beam import Beam
from protoformer.decoding.generation import complete
from protoformer.decoding.text_generator import Growing, Writer
from protoformer.errors import ConfigurationError
from protoformer.models.gpt import gpt
from protoformer.text.tokenizers import Tokenizer
from protoformer.text.vocabulary_training import train

TEXTS = ["where is the dog ? the dog sleeps in the garden , and a cat walks", "Über 12 mice — no cheese! 🐭🐭"]
BYTES = train(lambda: TEXTS * 3, "bytelevel", 300)
PAIRS = train(lambda: TEXTS * 3, "bpe", 120)
PROMPTS = ["where is", "the dog sleeps in the garden and", "a cat"]


def writer(words: Tokenizer, seed: int = 0, end: tuple[int, ...] = ()) -> Writer:
    torch.manual_seed(seed)
    model = gpt(vocab_size=words.vocab_size, d_model=16, n_layers=2, n_heads=2, d_ff=32, max_seq_len=48, init_std=0.5)
    return Writer(model, words, end)


@pytest.mark.parametrize("words", [BYTES, PAIRS], ids=["bytes", "pairs"])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_streamed_is_what_is_generated(words: Tokenizer, seed: int) -> None:
    ours = writer(words, seed)
    for prompt in PROMPTS:
        (whole,) = ours.generate(prompt, max_new=30, temperature=1.0, seed=seed)
        pieces = list(ours.stream(prompt, max_new=30, temperature=1.0, seed=seed))
        assert "".join(pieces) == whole.text
        assert len(pieces) > 3
        assert whole.finish == "length"
        assert len(whole.tokens) == 30
        ids = words.encode([prompt])[0]
        assert prompt_and(words, ids, whole.tokens) == whole.text


def prompt_and(words: Tokenizer, ids: list[int], new: list[int]) -> str:
    return words.decode([*ids, *new])[len(words.decode(ids)) :]


def test_tokens_are_those_of_the_search_below_and_a_batch_is_each_alone() -> None:
    ours = writer(BYTES)
    together = ours.generate(PROMPTS, max_new=12)
    expected = complete(ours.model, BYTES.encode(PROMPTS), max_new=12)
    assert [completion.tokens for completion in together] == expected
    assert together == [ours.generate(prompt, max_new=12)[0] for prompt in PROMPTS]
    assert together == ours.generate(PROMPTS, max_new=12, batch_size=2)
    assert [completion.prompt for completion in together] == PROMPTS


def test_a_letter_of_several_tokens_comes_whole() -> None:
    text = "🐭 Ü—"
    ids = [number for letter in text for number in BYTES.encode([letter])[0]]
    assert len(ids) > len(text)
    growing, given = Growing(BYTES, BYTES.encode(["a"])[0], ()), []
    for number in ids:
        growing.add(number)
        given.append(growing.settled())
    growing.close("length")
    assert "".join([*given, growing.settled()]) == text
    assert not any("\ufffd" in piece for piece in given)
    half = Growing(BYTES, [], ())
    half.add(BYTES.encode(["🦊"])[0][0])
    half.close("length")  # no more comes: what there is is shown as it is
    assert half.text == "\ufffd"


def test_a_stop_string_cuts_wherever_its_tokens_part() -> None:
    ours = writer(BYTES, 1)
    (whole,) = ours.generate("the", max_new=30, temperature=1.0)
    for begin in range(2, len(whole.text) - 4, 3):
        stop = whole.text[begin : begin + 3]
        (cut,) = ours.generate("the", max_new=30, temperature=1.0, stop=[stop, "never there"])
        assert cut.finish == "stop"
        assert cut.text == whole.text[: whole.text.index(stop)]
        assert len(cut.tokens) <= len(whole.tokens)
        streamed = "".join(ours.stream("the", max_new=30, temperature=1.0, stop=stop))
        assert streamed == cut.text


def test_a_stopped_prompt_leaves_the_others_alone() -> None:
    ours = writer(BYTES, 2)
    whole = ours.generate(PROMPTS, max_new=20)
    stop = whole[1].text[4:7]
    cut = ours.generate(PROMPTS, max_new=20, stop=[stop])
    for before, after in zip(whole, cut, strict=True):
        place = before.text.find(stop)
        assert after.text == (before.text if place < 0 else before.text[:place])
    assert cut[1].finish == "stop"
    assert len(cut[1].tokens) < 20


def test_an_end_of_text_ends_and_is_no_text() -> None:
    free = writer(BYTES, 3)
    (whole,) = free.generate("the", max_new=20)
    end = whole.tokens[5]
    (ended,) = writer(BYTES, 3, end=(end,)).generate("the", max_new=20)
    assert ended.tokens == whole.tokens[: whole.tokens.index(end)]
    assert ended.finish == "end"


def test_a_beam_of_one_is_greedy_and_more_score_no_worse() -> None:
    ours = writer(BYTES, 4)
    (greedy,) = ours.generate("where is the", max_new=8)
    (one,) = ours.search("where is the", max_new=8, beam=Beam(1))
    assert one.tokens == greedy.tokens
    assert one.text == greedy.text
    more = ours.search("where is the", max_new=8, beam=Beam(4))
    assert len(more) == 4
    assert [way.score for way in more] == sorted((way.score for way in more), reverse=True)
    assert more[0].score >= one.score


def test_what_cannot_be_gone_on_with() -> None:
    ours = writer(BYTES)
    with pytest.raises(ConfigurationError, match="prompt 1 is empty"):
        ours.generate(["a", ""])
    with pytest.raises(ConfigurationError, match="stop"):
        ours.generate("a", stop=["x", ""])
    with pytest.raises(ConfigurationError, match=r"top_p=1\.5"):
        ours.generate("a", temperature=1.0, top_p=1.5)
    with pytest.raises(ConfigurationError, match="max_new=48"):
        ours.search("a", max_new=48)


def test_a_prompt_longer_than_the_positions_slides() -> None:
    ours = writer(BYTES)
    long = "the dog and the cat , " * 20
    assert len(BYTES.encode([long])[0]) > ours.model.max_seq_len
    (found,) = ours.generate(long, max_new=60)
    assert len(found.tokens) == 60
    assert ours.search(long, max_new=10, beam=Beam(2))[0].tokens
