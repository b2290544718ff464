"""Tokenizers against `transformers`, BERT's template by example, truncation against the original loop."""

import json
import random
from pathlib import Path

import pytest
from transformers import BertTokenizer, GPT2Tokenizer, OpenAIGPTTokenizer

from protoformer.errors import UserError
from protoformer.text.templates import BertTemplate, truncated_lengths
from protoformer.text.tokenizer_files import read_tokenizer
from protoformer.text.tokenizers import whole_word_tokenizer
from protoformer.text.vocabulary_training import VocabularyKind, train

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "cat",
    "sat",
    "##s",
    "un",
    "##happ",
    "##y",
    "café",
    "Cat",
    ".",
]
TEXTS = ["The cats sat.", "UNHAPPY Café", "Cat, cat; the", "  ", "猫 the", "[MASK] the"]


@pytest.fixture
def vocab(tmp_path: Path) -> Path:
    (tmp_path / "vocab.txt").write_text("\n".join([*WORDS, "cafe", ",", ";", "猫"]) + "\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("lower", [True, False])
def test_vocab_file_equals_transformers_and_takes_casing_from_its_config(vocab: Path, lower: bool) -> None:
    (vocab / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    theirs = BertTokenizer(str(vocab / "vocab.txt"), do_lower_case=lower)
    assert read_tokenizer(vocab).encode(TEXTS) == [theirs.encode(text, add_special_tokens=False) for text in TEXTS]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_vocab_lines_end_at_a_newline_alone(tmp_path: Path, end: str, last: bool) -> None:
    """Multilingual vocabularies hold words that Python's splitlines cuts, which shifted every id after them."""
    words = [*WORDS, "\u2028", "a\u0085b", "x\u2029", "\x1c", "dog"]
    (tmp_path / "vocab.txt").write_bytes((end.join(words) + (end if last else "")).encode())
    tokenizer = read_tokenizer(tmp_path)
    assert tokenizer.id("dog") == len(words) - 1
    assert tokenizer.vocab_size == len(words)
    assert tokenizer.encode(["the dog"]) == [[5, len(words) - 1]]


def test_json_file_is_preferred_and_its_truncation_and_padding_are_dropped(vocab: Path) -> None:
    plain = read_tokenizer(vocab)
    plain.hf_tokenizer.enable_truncation(2)
    plain.hf_tokenizer.enable_padding(length=9)
    plain.hf_tokenizer.save(str(vocab / "tokenizer.json"))
    (vocab / "vocab.txt").unlink()
    assert read_tokenizer(vocab).encode(["the cat sat the cat"]) == [[5, 6, 7, 5, 6]]


ODD = (  # unicode, runs of whitespace, emoji, controls, numbers, contractions
    "naïve café Straße ﬁre Ⅻ x² 東京 нет עברית हिन्दी",
    "a  b\t\tc\n\n d\u00a0e\u2003f   ",
    "👩‍👩‍👧 🇩🇪 👍🏽 \ufe0f\u200d",
    "I'll we've they'RE don't 'tis 3.14159 1,000,000 0x1F",
    "\x00\x07\x1b[0m \ufeff \ufffd",
    "",
    " ",
)


@pytest.mark.parametrize("kind", ["bytelevel", "bpe"])
def test_pair_files_equal_transformers(kind: VocabularyKind, tmp_path: Path) -> None:
    """GPT's and GPT-2's vocab.json and merges.txt, on text that was not made for them."""
    words = ["the cat's café", "lower lowest newer newest wider", "don't we'll", "naïve 1999 2024"] * 30
    trained = train(lambda: words, kind, 420 if kind == "bytelevel" else 120)
    trained.hf_tokenizer.model.save(str(tmp_path))
    actual = read_tokenizer(tmp_path)
    theirs = (GPT2Tokenizer if kind == "bytelevel" else OpenAIGPTTokenizer).from_pretrained(tmp_path)
    draw = random.Random(0)
    alphabet = "".join(ODD) + "".join(words)
    texts = [*ODD, *words[:4], *("".join(draw.choices(alphabet, k=draw.randint(1, 60))) for _ in range(300))]
    assert actual.encode(texts) == [theirs.encode(text, add_special_tokens=False) for text in texts]
    assert actual.encode(texts) == trained.encode(texts)
    if kind == "bytelevel":
        assert [actual.decode(ids) for ids in actual.encode(texts)] == texts
        assert actual.id("<|endoftext|>") == actual.vocab_size - 1


def test_pair_files_that_do_not_fit_are_told(tmp_path: Path) -> None:
    vocab = tmp_path / "vocab.json"
    vocab.write_text('{"a": 0, "b": 1, "ab": 2}')
    with pytest.raises(UserError, match=r"merges\.txt: it belongs to vocab\.json, and is not there"):
        read_tokenizer(tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b c\n")
    with pytest.raises(UserError, match="'a b c' is not a pair of tokens"):
        read_tokenizer(tmp_path)
    (tmp_path / "merges.txt").write_text("a x\n")
    with pytest.raises(UserError, match=r"merges\.txt: .*"):
        read_tokenizer(tmp_path)
    vocab.write_text("[1, 2]")
    with pytest.raises(UserError, match=r"vocab\.json: \[1, 2\]; expected an object"):
        read_tokenizer(tmp_path)


def test_what_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of tokenizer\.json, vocab\.txt, vocab\.json"):
        read_tokenizer(tmp_path)
    with pytest.raises(UserError, match="no such tokenizer"):
        read_tokenizer(tmp_path / "nowhere.json")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="not a tokenizer file"):
        read_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match=r"lacks \[PAD\]"):
        read_tokenizer(tmp_path / "vocab.txt")


def test_vocabulary_of_whole_words_is_deterministic_and_covers_its_words() -> None:
    texts = ["the old man sees a small dog", "a dog sees the old man"]
    one, two = (whole_word_tokenizer(iter(texts), "here") for _ in range(2))
    assert one.digest == two.digest
    assert one.id("[CLS]") == 2
    assert [len(ids) for ids in one.encode(["The old dog", "gold"])] == [3, 4]
    assert one.decode(one.encode(["The old gold"])[0]) == "the old gold"
    with pytest.raises(UserError, match="lacks the special token <extract>"):
        one.id("<extract>")


def original_truncation(a: int, b: int, room: int) -> tuple[int, int]:
    """Token by token, as BERT's code words it."""
    while a + b > room:
        if a > b:
            a -= 1
        else:
            b -= 1
    return a, b


def test_truncation_equals_the_original_loop() -> None:
    draw = random.Random(0)
    for _ in range(3000):
        a, b, room = draw.randint(0, 60), draw.randint(0, 60), draw.randint(0, 70)
        assert truncated_lengths(a, b, room) == original_truncation(a, b, room)


def test_bert_template_encodes_singles_and_pairs(vocab: Path) -> None:
    template = BertTemplate(read_tokenizer(vocab))
    single = template.encode_texts([[5, 6], [7]], None, 8)
    assert single.ids.tolist() == [2, 5, 6, 3, 2, 7, 3]
    assert single.offsets.tolist() == [0, 4, 7]
    assert single.segment_ids.tolist() == [0] * 7
    pair = template.encode_texts([[5, 6], [5]], [[7], [6, 6, 6, 6, 6]], 8)
    assert pair.ids.tolist() == [2, 5, 6, 3, 7, 3, 2, 5, 3, 6, 6, 6, 6, 3]
    assert pair.segment_ids.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1]
    assert pair.offsets.tolist() == [0, 6, 14]
    assert pair.truncated == 1
    assert pair.pooler_position.tolist() == [0, 0]
    assert template.encode_texts([[5] * 20], None, 8).truncated == 1
