"""De-tokenisers: what they undo, and that the original comes back."""

import pytest

from protoformer.errors import ConfigurationError
from protoformer.text.words.detokenizers import RULES, InvertibleDetokenizer

WIKITEXT = ["line_spaces", "separators", "punctuation", "quotes", "clitics"]
PTB = ["line_spaces", "clitics", "negations", "currency", "numbers"]
CASES = [
    (WIKITEXT, " = Robert <unk> = ", "= Robert <unk> ="),
    (WIKITEXT, ' It sold 1 @,@ 000 @.@ 5 copies ( in 1981 ) . ', "It sold 1,000.5 copies (in 1981)."),
    (WIKITEXT, ' A co @-@ star said : " It \'s good , isn \'t it ? " ', "A co-star said: \"It's good, isn't it?\""),
    (WIKITEXT, " Mr. U.S. Grant met J. Smith ... 50 % ; the end ! ", "Mr. U.S. Grant met J. Smith... 50%; the end!"),
    (WIKITEXT, " the rock -- it fell , said the boys ' dog . ", "the rock -- it fell, said the boys' dog."),
    (PTB, " the <unk> did n't fall N N to $ N million # N a share 's price ",
     "the <unk> didn't fall 1 1 to $1 million #1 a share's price"),
    (PTB, " a N-year-old n.y. firm ", "a 1-year-old n.y. firm"),
    (["latex_quotes", "punctuation", "clitics", "negations"], "`` I wo n't , '' said he .", '"I won\'t," said he.'),
    (["unknown_words"], "the <unk> of it", "the UNK of it"),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "original", "expected"), CASES)
def test_the_original_comes_back(rules: list[str], original: str, expected: str) -> None:
    detokenizer = InvertibleDetokenizer(rules)
    text = f"{original}\n\n{original}"
    assert detokenizer(text) == f"{expected}\n\n{expected}"
    assert detokenizer.inverse(f"{expected}\n\n{expected}") == text
    assert detokenizer.undone.ambiguous == 0


@pytest.mark.parametrize("word", ["St", "B", "n.y", "no"])
def test_tokens_that_would_not_come_back_stay_apart(word: str) -> None:
    """A full stop behind an abbreviation would be read as a part of it."""
    detokenizer = InvertibleDetokenizer(["punctuation"])
    assert detokenizer(f"the {word} .") == f"the {word} ."
    assert detokenizer.inverse(detokenizer(f"the {word} .")) == f"the {word} ."


def test_ambiguous_tokens_stay_and_are_counted() -> None:
    detokenizer = InvertibleDetokenizer(["separators", "punctuation"])
    assert detokenizer("well-known and Press. , 1,000 here") == "well-known and Press. , 1,000 here"
    assert detokenizer.undone.ambiguous == 3  # the comma could come back alone


def test_every_rule_is_named_and_others_are_refused() -> None:
    assert {rule for rules, *_ in CASES for rule in rules} == set(RULES)
    with pytest.raises(ConfigurationError, match="no de-tokeniser 'spaces'; there are separators, punctuation"):
        InvertibleDetokenizer(["spaces"])
