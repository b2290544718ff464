"""Tokens one by one, as three kinds of vocabulary write them."""

from collections.abc import Mapping

from tokenizers import Tokenizer as HFTokenizer
from tokenizers import pre_tokenizers

from protoformer.text.tokenizers import Tokenizer, byte_level_bpe, end_of_word_bpe, whole_word_tokenizer
from protoformer.views.token_labels import token_labels

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def shown(hf_tokenizer: HFTokenizer, text: str) -> list[str]:
    tokenizer = Tokenizer(hf_tokenizer, "here")
    return token_labels(tokenizer, tokenizer.encode([text])[0])


def numbered(words: list[str]) -> Mapping[str, int]:
    return {word: number for number, word in enumerate(words)}


def test_pieces_and_special_tokens_are_as_the_vocabulary_has_them() -> None:
    tokenizer = whole_word_tokenizer(["the cat sat"], "here")
    ids = [tokenizer.id("[CLS]"), *tokenizer.encode(["the cats"])[0], 10_000]
    assert token_labels(tokenizer, ids) == ["[CLS]", "the", "cat", "##s", "id 10000"]


def test_bytes_become_letters_where_they_are_whole() -> None:
    words = numbered([*BYTES, "th", "Ġth", "the", "Ġthe", "Ã©"])
    hf_tokenizer = byte_level_bpe(words, [("t", "h"), ("Ġ", "th"), ("th", "e"), ("Ġth", "e"), ("Ã", "©")])
    assert shown(hf_tokenizer, "the the") == ["the", "·the"]
    assert shown(hf_tokenizer, "a\n") == ["a", "⏎"]
    assert shown(hf_tokenizer, "é") == ["é"]
    assert shown(hf_tokenizer, "ü") == ["Ã", "¼"]  # two bytes, neither a letter by itself


def test_what_ends_no_word_says_so() -> None:
    hf_tokenizer = end_of_word_bpe(numbered(["<unk>", "u", "n", "n</w>", "un", "un</w>"]), [("u", "n"), ("u", "n</w>")])
    assert shown(hf_tokenizer, "un unun") == ["un", "un-", "un"]


def test_what_would_steer_the_reader_is_written_as_a_number() -> None:
    tokenizer = Tokenizer(byte_level_bpe(numbered(BYTES), []), "here")
    tokenizer.hf_tokenizer.add_tokens(["\u202eabc", "a\x1b[31m"])
    known = [tokenizer.id("\u202eabc"), tokenizer.id("a\x1b[31m")]
    assert token_labels(tokenizer, known) == ["<202e>abc", "a<1b>[31m"]
