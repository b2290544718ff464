"""Text generation: streaming, characters of several tokens, stop strings and beam search."""

import pytest
import torch

from protoformer.decoding.beam import BeamParams
from protoformer.decoding.generation import complete
from protoformer.decoding.text_generator import IncrementalDetokenizer, TextGenerator
from protoformer.errors import ConfigurationError
from protoformer.models.gpt import gpt
from protoformer.text.tokenizers import Tokenizer
from protoformer.text.vocabulary_training import train

TEXTS = ["where is the dog ? the dog sleeps in the garden , and a cat walks", "Über 12 mice — no cheese! 🐭🐭"]
BYTES = train(lambda: TEXTS * 3, "bytelevel", 300)
PAIRS = train(lambda: TEXTS * 3, "bpe", 120)
PROMPTS = ["where is", "the dog sleeps in the garden and", "a cat"]


def generator(tokenizer: Tokenizer, seed: int = 0, eos_ids: tuple[int, ...] = ()) -> TextGenerator:
    torch.manual_seed(seed)
    model = gpt(
        vocab_size=tokenizer.vocab_size, d_model=16, n_layers=2, n_heads=2, d_ff=32, max_seq_len=48, init_std=0.5
    )
    return TextGenerator(model, tokenizer, eos_ids)


@pytest.mark.parametrize("tokenizer", [BYTES, PAIRS], ids=["bytes", "pairs"])
@pytest.mark.parametrize("seed", range(3))
def test_streamed_text_equals_generated_text(tokenizer: Tokenizer, seed: int) -> None:
    ours = generator(tokenizer, seed)
    for prompt in PROMPTS:
        (whole,) = ours.generate(prompt, max_new_tokens=30, temperature=1.0, seed=seed)
        pieces = list(ours.stream(prompt, max_new_tokens=30, temperature=1.0, seed=seed))
        assert "".join(pieces) == whole.text
        assert len(pieces) > 3
        assert whole.finish_reason == "length"
        assert len(whole.tokens) == 30
        ids = tokenizer.encode([prompt])[0]
        assert decoded_after(tokenizer, ids, whole.tokens) == whole.text


def decoded_after(tokenizer: Tokenizer, ids: list[int], new: list[int]) -> str:
    return tokenizer.decode([*ids, *new])[len(tokenizer.decode(ids)) :]


def test_batch_equals_single_prompts() -> None:
    ours = generator(BYTES)
    together = ours.generate(PROMPTS, max_new_tokens=12)
    expected = complete(ours.model, BYTES.encode(PROMPTS), max_new_tokens=12)
    assert [completion.tokens for completion in together] == expected
    assert together == [ours.generate(prompt, max_new_tokens=12)[0] for prompt in PROMPTS]
    assert together == ours.generate(PROMPTS, max_new_tokens=12, batch_size=2)
    assert [completion.prompt for completion in together] == PROMPTS


def test_characters_of_several_tokens() -> None:
    text = "🐭 Ü—"
    ids = [token for character in text for token in BYTES.encode([character])[0]]
    assert len(ids) > len(text)
    detokenizer, pieces = IncrementalDetokenizer(BYTES, BYTES.encode(["a"])[0], ()), []
    for token in ids:
        detokenizer.add(token)
        pieces.append(detokenizer.flush())
    detokenizer.close("length")
    assert "".join([*pieces, detokenizer.flush()]) == text
    assert not any("\ufffd" in piece for piece in pieces)
    incomplete = IncrementalDetokenizer(BYTES, [], ())
    incomplete.add(BYTES.encode(["🦊"])[0][0])
    incomplete.close("length")  # no more tokens: the incomplete character is shown as U+FFFD
    assert incomplete.text == "\ufffd"


def test_stop_string_across_tokens() -> None:
    ours = generator(BYTES, 1)
    (whole,) = ours.generate("the", max_new_tokens=30, temperature=1.0)
    for start in range(2, len(whole.text) - 4, 3):
        stop = whole.text[start : start + 3]
        (cut,) = ours.generate("the", max_new_tokens=30, temperature=1.0, stop=[stop, "never there"])
        assert cut.finish_reason == "stop"
        assert cut.text == whole.text[: whole.text.index(stop)]
        assert len(cut.tokens) <= len(whole.tokens)
        streamed = "".join(ours.stream("the", max_new_tokens=30, temperature=1.0, stop=stop))
        assert streamed == cut.text


def test_stopped_prompt_does_not_change_the_others() -> None:
    ours = generator(BYTES, 2)
    whole = ours.generate(PROMPTS, max_new_tokens=20)
    stop = whole[1].text[4:7]
    cut = ours.generate(PROMPTS, max_new_tokens=20, stop=[stop])
    for before, after in zip(whole, cut, strict=True):
        index = before.text.find(stop)
        assert after.text == (before.text if index < 0 else before.text[:index])
    assert cut[1].finish_reason == "stop"
    assert len(cut[1].tokens) < 20


def test_end_of_text_is_not_part_of_the_text() -> None:
    free = generator(BYTES, 3)
    (whole,) = free.generate("the", max_new_tokens=20)
    eos_id = whole.tokens[5]
    (ended,) = generator(BYTES, 3, eos_ids=(eos_id,)).generate("the", max_new_tokens=20)
    assert ended.tokens == whole.tokens[: whole.tokens.index(eos_id)]
    assert ended.finish_reason == "end"


def test_one_beam_is_greedy_and_more_beams_score_no_worse() -> None:
    ours = generator(BYTES, 4)
    (greedy,) = ours.generate("where is the", max_new_tokens=8)
    (one,) = ours.beam_search("where is the", max_new_tokens=8, params=BeamParams(1))
    assert one.tokens == greedy.tokens
    assert one.text == greedy.text
    more = ours.beam_search("where is the", max_new_tokens=8, params=BeamParams(4))
    assert len(more) == 4
    assert [completion.score for completion in more] == sorted((completion.score for completion in more), reverse=True)
    assert more[0].score >= one.score


def test_empty_prompts_and_values_out_of_range() -> None:
    ours = generator(BYTES)
    from_nothing = TextGenerator(ours.model, ours.tokenizer, (0,)).generate(["a", ""], max_new_tokens=3)
    assert len(from_nothing) == 2  # from the end-of-text token
    with pytest.raises(ConfigurationError, match="prompt 2 is empty"):
        TextGenerator(ours.model, ours.tokenizer, ()).generate(["a", ""])
    with pytest.raises(ConfigurationError, match="stop"):
        ours.generate("a", stop=["x", ""])
    with pytest.raises(ConfigurationError, match=r"top_p=1\.5"):
        ours.generate("a", temperature=1.0, top_p=1.5)
    with pytest.raises(ConfigurationError, match="max_new_tokens=48"):
        ours.beam_search("a", max_new_tokens=48)


def test_prompt_longer_than_max_seq_len() -> None:
    ours = generator(BYTES)
    long = "the dog and the cat , " * 20
    assert len(BYTES.encode([long])[0]) > ours.model.max_seq_len
    (completion,) = ours.generate(long, max_new_tokens=60)
    assert len(completion.tokens) == 60
    assert ours.beam_search(long, max_new_tokens=10, params=BeamParams(2))[0].tokens
