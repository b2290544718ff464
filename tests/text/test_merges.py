"""A file of merges alone against the textbook's way to apply them; words as Moses' tokenizer cuts them."""

from itertools import pairwise
from pathlib import Path

import pytest

from protoformer.errors import UserError
from protoformer.scoring.bleu import moses
from protoformer.text.tokenizer_files import read_tokenizer

MERGES = ["l o", "lo w</w>", "e r</w>", "n e", "ne w", "lo w", "low er</w>", "ö ß", "w e", "we öß"]
TEXT = "low lower newer löß weöß nowe , ( new )"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bpe.10"
    path.write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n", encoding="utf-8")
    return path


def applied(word: str) -> list[str]:
    """The rule of the paper: of all neighbours the pair that was learnt first, everywhere, until there is none."""
    tokens = [*word[:-1], f"{word[-1]}</w>"]
    order = {tuple(line.split()): number for number, line in enumerate(MERGES)}
    while True:
        pairs = [pair for pair in pairwise(tokens) if pair in order]
        if not pairs:
            return tokens
        first = min(pairs, key=order.__getitem__)
        place, merged = 0, []
        while place < len(tokens):
            two = tuple(tokens[place : place + 2]) == first
            merged.append("".join(tokens[place : place + 2]) if two else tokens[place])
            place += 2 if two else 1
        tokens = merged


def test_merges_are_applied_in_their_order(file: Path) -> None:
    tokenizer = read_tokenizer(file)
    actual = tokenizer.hf_tokenizer.encode(TEXT, add_special_tokens=False).tokens
    assert actual == [token for word in TEXT.split() for token in applied(word)]
    assert tokenizer.decode(tokenizer.encode([TEXT])[0]) == TEXT
    assert tokenizer.hf_tokenizer.encode("漢", add_special_tokens=False).tokens == ["<unk>"]


@pytest.mark.parametrize(
    "text",
    ['Der rot-weiße Bus (3,5 m) fährt, "heute" um 10:30!', "Was ist das? Ein Foto; zwei Bäume.", "a / b + c = 50 %"],
)
def test_raw_text_is_cut_as_moses_cuts_it(file: Path, text: str) -> None:
    tokenizer = read_tokenizer(file)
    assert tokenizer.decode(tokenizer.encode([text])[0]) == moses(text, "de")
    assert tokenizer.encode([text]) == tokenizer.encode([moses(text, "de")])


def test_what_is_no_such_file(file: Path, tmp_path: Path) -> None:
    file.write_text("#version: 0.2\na b\na b c\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 3: 'a b c' is not a pair of tokens"):
        read_tokenizer(file)
