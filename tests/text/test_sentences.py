"""Where sentences end, and where a stop is only an abbreviation's, an initial's or a number's."""

import pytest

from protoformer.text.sentences import sentences


@pytest.mark.parametrize(
    "parts",
    [
        ["It rained.", "We left!", "Why?", "Nobody knew…", "12 men came."],
        ['"Why?"', '"Because."', "(He was gone.)", "“So be it.”", "[Exit.]", "The end"],
        ["Mr. Smith met Dr. J. R. Jones at 3 p.m. Monday in the U.S. Senate.", "He paid 3.14 dollars."],
        ["See Fig. 3, No. 5 and pp. 12 to 14.", "He said no.", "She said yes."],
        ["1. Introduction.", "It begins.", "In 1990.", "Then more."],
        ["Él vino.", "Ésta no.", "Лес был. лес есть.", "Да."],
        ["e.g. This and that, vs. These."],
        ["And so on... or not...", "He went."],
        ["Really?!", "Yes."],
    ],
)
def test_sentences_are_found_again(parts: list[str]) -> None:
    assert sentences(" ".join(parts)) == parts
    assert sentences("  ".join(parts) + " \n") == parts


def test_a_line_ends_a_sentence_and_blank_ones_are_none() -> None:
    assert sentences("First Citizen:\nBefore we\r\n\r\n  proceed. any further\n") == [
        "First Citizen:",
        "Before we",
        "proceed. any further",
    ]
    assert sentences("") == sentences(" \n\t\n") == []


def test_nothing_but_white_space_is_lost() -> None:
    text = 'He (Mr. A.) came. "No!" he said... Then? 5 went.\nIt is 3.5.4. Good.Bad. x'
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())
