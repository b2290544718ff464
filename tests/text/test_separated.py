"""The template of models without a token for the whole: `a sep`, `a sep b`."""

from itertools import pairwise
from pathlib import Path

import pytest

from protoformer.errors import UserError
from protoformer.text.templates import SeparatedTemplate
from protoformer.text.tokenizer_files import read_tokenizer
from protoformer.text.tokenizers import Tokenizer, whole_word_tokenizer
from protoformer.text.vocabulary_training import train

A, B = [[11, 12, 13], [14], []], [[21, 22], [23, 24, 25, 26], [27]]


@pytest.fixture
def words() -> Tokenizer:
    return whole_word_tokenizer(["the cat sat on the mat"], "some words")


def split(written: object) -> list[list[int]]:
    ids, offsets = written.ids.tolist(), written.offsets.tolist()
    return [ids[a:b] for a, b in pairwise(offsets)]


def test_texts_and_pairs(words: Tokenizer) -> None:
    template = SeparatedTemplate(words)
    sep = words.id("[SEP]")
    one = template.encode_texts(A, None, 8)
    assert split(one) == [[11, 12, 13, sep], [14, sep], [sep]]
    assert one.pooler_position.tolist() == [3, 1, 0]
    pair = template.encode_texts(A, B, 8)
    assert split(pair) == [[11, 12, 13, sep, 21, 22], [14, sep, 23, 24, 25, 26], [sep, 27]]
    assert pair.pooler_position.tolist() == [3, 1, 0]
    assert [row.tolist() for row in map(pair.segment_ids.__getitem__, map(slice, pair.offsets[:-1], pair.offsets[1:]))] == [
        [0, 0, 0, 0, 1, 1],
        [0, 0, 1, 1, 1, 1],
        [0, 1],
    ]  # fmt: skip
    assert (one.truncated, pair.truncated) == (0, 0)


def test_what_is_too_long_is_cut_to_the_last_place(words: Tokenizer) -> None:
    template = SeparatedTemplate(words)
    long = [list(range(10, 20))], [list(range(30, 40))]
    assert len(template.encode_texts([list(range(10, 40))], None, 12).ids) == 12
    pair = template.encode_texts(*long, 12)
    assert len(pair.ids) == 12
    assert pair.truncated == 1


def test_windows_lose_no_context(words: Tokenizer) -> None:
    template = SeparatedTemplate(words)
    sep = words.id("[SEP]")
    made = template.encode_windows([[11, 12]], [list(range(30, 41))], max_len=8, stride=3, max_question=4)
    pieces = split(made)
    assert all(piece[:3] == [11, 12, sep] and len(piece) <= 8 for piece in pieces)
    assert pieces[0] == [11, 12, sep, 30, 31, 32, 33, 34]
    assert made.context_start.tolist() == [3] * len(pieces)
    assert made.null_position.tolist() == [2] * len(pieces)  # the separator stands for no answer
    shown = {
        30 + first + i
        for first, n in zip(made.first_token.tolist(), made.context_tokens.tolist(), strict=True)
        for i in range(n)
    }
    assert shown == set(range(30, 41))
    assert [piece[3:] for piece in pieces] == [
        [30 + first + i for i in range(n)]
        for first, n in zip(made.first_token.tolist(), made.context_tokens.tolist(), strict=True)
    ]


def test_a_vocabulary_without_a_separator_gets_one(tmp_path: Path) -> None:
    texts = ["the cat sat on the mat", "a dog sat"] * 20
    train(lambda: iter(texts), "bytelevel", 300).save(tmp_path)
    tokenizer = read_tokenizer(tmp_path)
    template = SeparatedTemplate(tokenizer)
    assert template.sep_id == tokenizer.vocab_size
    assert template.largest_id("encode_texts") == tokenizer.vocab_size
    with pytest.raises(UserError, match=r"lacks the special token \[MASK\]"):
        _ = template.mask_id


def test_a_vocabulary_with_one_needs_no_more(words: Tokenizer) -> None:
    template = SeparatedTemplate(words)
    assert template.largest_id("encode_texts") < words.vocab_size
    assert template.mask_id == words.id("[MASK]")
    assert template.special_ids == (words.id("[SEP]"),)
