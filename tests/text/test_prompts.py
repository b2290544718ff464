"""Prompt templates, and the boundary between a context and its completion."""

import pytest
from tokenizers import Tokenizer as HFTokenizer
from tokenizers import decoders, models, pre_tokenizers

from protoformer.errors import ConfigurationError
from protoformer.text.prompts.pairs import encode_pairs
from protoformer.text.prompts.template import MissingFieldError, Template
from protoformer.text.tokenizers import Tokenizer

ROW = {
    "premise": "The man fell. ",
    "question": "cause",
    "answers": {"text": ["a step", "the step"], "first": "A step."},
    "choice": "It rained",
    "sentence": "The cat sat on the _ because it was warm.",
    "number": 7,
    "nothing": None,
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{premise|no_full_stop} because", "The man fell because"),
        ("{choice|lower_first}", "it rained"),
        ("{answers.first|lower|no_full_stop}", "a step"),
        ("{answers.text}", "a step the step"),
        ("{sentence|before_blank} | {sentence|after_blank|strip}", "The cat sat on the | because it was warm."),
        ("{sentence|last_word} {sentence|without_last_word}", "warm. The cat sat on the _ because it was"),
        ("{{{number}}}", "{7}"),
        ("no field", "no field"),
    ],
)
def test_fields_and_filters(template: str, expected: str) -> None:
    assert Template(template).render(ROW) == expected


@pytest.mark.parametrize("template", ["{absent}", "{answers.absent}", "{nothing}", "{premise.inner}"])
def test_a_missing_field_is_named(template: str) -> None:
    with pytest.raises(MissingFieldError) as caught:
        Template(template).render(ROW)
    assert caught.value.args[0] == template.strip("{}")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{premise|upper_all}", "no filter 'upper_all'; there are strip, lower"),
        ("{premise", "a brace that stands alone"),
        ("premise}", "a brace that stands alone"),
        ("{}", "a field without a name"),
    ],
)
def test_a_template_that_cannot_be_read_is_refused(template: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Template(template)


def test_columns_are_named_once() -> None:
    assert Template("{answers.text} {premise} {answers.first|lower}").columns == ["answers", "premise"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A byte-level vocabulary with some merges: ` c`, ` ca`, ` cat`, `at`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate([*alphabet, "Ġc", "Ġca", "Ġcat", "at"])}
    merges = [("Ġ", "c"), ("Ġc", "a"), ("Ġca", "t"), ("a", "t")]
    built = HFTokenizer(models.BPE(vocab=vocabulary, merges=merges))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    return Tokenizer(built, "test")


def test_context_and_completion_are_encoded_as_one_text(tokenizer: Tokenizer) -> None:
    (pair,) = encode_pairs(tokenizer, ["a"], [" cat"], None)
    assert pair.ids == tokenizer.encode("a cat")
    assert tokenizer.decode(pair.ids[pair.start :]) == " cat"
    assert not pair.merged


def test_white_space_at_the_end_of_a_context_belongs_to_the_completion(tokenizer: Tokenizer) -> None:
    spaced, plain = encode_pairs(tokenizer, ["a ", "a"], ["cat", " cat"], None)
    assert spaced == plain


def test_a_token_across_the_boundary_is_noticed(tokenizer: Tokenizer) -> None:
    (pair,) = encode_pairs(tokenizer, ["a c"], ["at"], None)
    assert pair.merged  # ` cat` is one token, and the context ends in ` c`
    assert pair.ids == tokenizer.encode("a cat")
    assert tokenizer.decode(pair.ids[pair.start :]) == " cat"  # a completion has a token at least


def test_an_empty_context_is_the_token_between_documents(tokenizer: Tokenizer) -> None:
    (pair,) = encode_pairs(tokenizer, [""], [" cat"], 99)
    assert pair.ids == [99, *tokenizer.encode(" cat")]
    assert pair.start == 1
    with pytest.raises(ConfigurationError, match="no token to begin a text with"):
        encode_pairs(tokenizer, [""], [" cat"], None)
