"""Masks by their statistics, and by what must hold in every single text."""

import numpy as np
import pytest

from protoformer.data.corpus.masking import MaskedSequence, MaskedTokens, NextTokens
from protoformer.errors import ConfigurationError
from protoformer.text.templates import BertTemplate
from protoformer.text.tokenizers import Tokenizer, whole_word_tokenizer

VOCAB, MASK, CLS = 1000, 4, 2


def text(length: int, seed: int = 0) -> np.ndarray:
    ids = np.random.default_rng(seed).integers(5, VOCAB, length)
    ids[[0, length // 2, -1]] = CLS
    return ids


def masked(
    masking: MaskedTokens | NextTokens, ids: np.ndarray, continues: np.ndarray | None = None, most: int = 10**9,
    seed: int = 0,
) -> MaskedSequence:  # fmt: skip
    return masking(ids, ids == CLS, continues, VOCAB, MASK, most, np.random.default_rng(seed))


def test_shares_of_a_hundred_thousand_tokens() -> None:
    ids = text(100_000)
    actual = masked(MaskedTokens(), ids)
    assert len(actual.positions) == 15_000
    chosen = ids[actual.positions]
    np.testing.assert_array_equal(actual.target_ids, chosen)
    became = actual.ids[actual.positions]
    share = {
        "mask": (became == MASK).mean(),
        "same": (became == chosen).mean(),
        "random": ((became != MASK) & (became != chosen)).mean(),
    }
    assert share == pytest.approx({"mask": 0.8, "same": 0.1, "random": 0.1}, abs=0.01)
    replaced = became[(became != MASK) & (became != chosen)]
    assert (
        np.abs(np.histogram(replaced, 4, (0, VOCAB))[0] / len(replaced) - 0.25).max() < 0.05
    )  # of the whole vocabulary
    untouched = np.setdiff1d(np.arange(len(ids)), actual.positions)
    np.testing.assert_array_equal(actual.ids[untouched], ids[untouched])
    assert (np.diff(actual.positions) > 0).all()
    assert abs(actual.positions.mean() / len(ids) - 0.5) < 0.01


@pytest.mark.parametrize("whole_word", [False, True])
def test_special_tokens_are_never_told_and_the_bound_holds(whole_word: bool) -> None:
    continues = np.random.default_rng(1).random(500) < 0.4
    for seed in range(50):
        ids = text(500, seed)
        continues[ids == CLS] = False
        actual = masked(MaskedTokens(share=0.5, whole_word=whole_word), ids, continues, most=20, seed=seed)
        assert len(actual.positions) <= 20
        assert not (ids[actual.positions] == CLS).any()
        assert whole_word or len(actual.positions) == 20


def test_short_texts() -> None:
    for length, expected in ((3, 0), (4, 1), (5, 1), (9, 1), (10, 2), (11, 2), (17, 3)):  # of 10, 1.5 round to 2
        ids = text(length)
        assert len(masked(MaskedTokens(), ids).positions) == expected
        assert len(masked(MaskedTokens(whole_word=True), ids, np.zeros(length, dtype=bool)).positions) == expected
    assert len(masked(MaskedTokens(), np.array([CLS, CLS])).positions) == 0
    assert len(masked(MaskedTokens(whole_word=True), np.array([CLS, CLS]), np.zeros(2, dtype=bool)).positions) == 0


def test_whole_words_are_whole() -> None:
    random = np.random.default_rng(3)
    told = []
    for seed in range(200):
        ids = text(120, seed)
        continues = (random.random(120) < 0.5) & (ids != CLS)
        actual = masked(MaskedTokens(whole_word=True), ids, continues, most=16, seed=seed)
        chosen = np.zeros(120, dtype=bool)
        chosen[actual.positions] = True
        joined = continues[1:] & (ids[:-1] != CLS)  # these two are of one word
        assert (chosen[1:] == chosen[:-1])[joined].all()
        told.append(len(actual.positions))
    assert max(told) == 16
    assert np.mean(told) > 15.5  # up to the number, with what still fits


def test_next_tokens_are_all_told_and_nothing_is_hidden() -> None:
    ids = text(20)
    actual = masked(NextTokens(), ids, most=3)
    np.testing.assert_array_equal(actual.ids, ids)
    assert actual.positions.tolist() == list(range(19))
    np.testing.assert_array_equal(actual.target_ids, ids[1:])


def test_shares_that_cannot_be_are_refused() -> None:
    for wrong in ({"share": 1.1}, {"mask": -0.1}, {"random": 2.0}, {"mask": 0.9, "random": 0.2}):
        with pytest.raises(ConfigurationError, match=r"task\.data\.masking"):
            MaskedTokens(**wrong)
    assert len(masked(MaskedTokens(share=0.0), text(50)).positions) == 1  # as in BERT's code


def byte_level() -> Tokenizer:
    from tokenizers import Tokenizer as HFTokenizer
    from tokenizers import models, pre_tokenizers

    rust = HFTokenizer(models.BPE({"a": 0, "b": 1, "Ġ": 2, "Ġa": 3, "ab": 4, "[CLS]": 5}, [("Ġ", "a"), ("a", "b")]))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.add_special_tokens(["[CLS]"])
    return Tokenizer(rust, "bytes")


def test_vocabularies_say_which_tokens_go_on_with_a_word() -> None:
    words = whole_word_tokenizer(["ab c"], "here")
    told = words.is_continuation()
    assert told is not None
    names = {number: token for token, number in words.hf_tokenizer.get_vocab().items()}
    assert {names[number] for number in np.flatnonzero(told)} == {"##a", "##b", "##c"}
    of_bytes = byte_level().is_continuation()
    assert of_bytes is not None
    assert of_bytes.tolist() == [True, True, False, False, True, False]
    from tokenizers import Tokenizer as HFTokenizer
    from tokenizers import models

    assert Tokenizer(HFTokenizer(models.WordLevel({"a": 0}, unk_token="a")), "words").is_continuation() is None
    assert BertTemplate(words).mask_id == words.id("[MASK]")
