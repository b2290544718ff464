"""Treebanks in CoNLL-U, the format of Universal Dependencies (https://universaldependencies.org/format.html).

A line is a word of ten columns, a blank line ends a sentence, `#` begins a comment. Words are numbered from 1. `3-4` is a token
of the text that is two words (`don't`), `5.1` a word that the text leaves out; the arcs of the basic tree join plain numbers.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from protoformer.errors import ConfigurationError

ID, FORM, UPOS, HEAD, DEPREL, MISC = 0, 1, 3, 6, 7, 9
COLUMNS = 10
PUNCTUATION = "PUNCT"
WORD, TOKEN, LEFT_OUT = (re.compile(pattern) for pattern in ("[0-9]+", "([0-9]+)-([0-9]+)", r"[0-9]+\.[0-9]+"))


class Line(NamedTuple):
    """The columns of a line, and its number in the file, from 1."""

    number: int
    columns: list[str]


@dataclass(frozen=True)
class Sentence:
    """A sentence with its tree. Words are numbered from 0; the head of the root is -1."""

    text: str
    forms: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]  # of each word in the text, start and end
    heads: tuple[int, ...]
    relations: tuple[str, ...]  # universal ones, `nsubj` of `nsubj:pass`
    parts_of_speech: tuple[str, ...]  # universal ones

    def __len__(self) -> int:
        return len(self.forms)

    @property
    def arcs(self) -> list[tuple[int, int, str]]:
        """(dependent, head, relation), without the root's arc and without punctuation, on either end."""
        return [
            (dependent, head, relation)
            for dependent, (head, relation) in enumerate(zip(self.heads, self.relations, strict=True))
            if head >= 0 and not {self.parts_of_speech[dependent], self.parts_of_speech[head]} & {PUNCTUATION}
        ]


def read(file: Path) -> list[Sentence]:
    """All sentences of a file. Raises ConfigurationError with file and line for what is no tree in CoNLL-U."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file}: byte {error.start} is no UTF-8; CoNLL-U is plain text") from None
    return parse(text, str(file))


def parse(text: str, name: str) -> list[Sentence]:
    """All sentences of a text; errors name it `name`."""
    sentences = [_sentence(name, lines) for lines in _blocks(text)]
    if not sentences:
        raise ConfigurationError(f"{name}: there is no sentence in it")
    return sentences


def _blocks(text: str) -> Iterator[list[Line]]:
    """The lines of each sentence, without comments."""
    lines = list[Line]()
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        line = line.rstrip("\r")
        if line.strip() and not line.startswith("#"):
            lines.append(Line(number, line.split("\t")))
        elif not line.strip() and lines:
            yield lines
            lines = []


def _sentence(file: str, lines: Sequence[Line]) -> Sentence:
    text, words, offsets = "", list[Sequence[str]](), list[tuple[int, int]]()
    token_end = 0  # the last word of the token of several words that is being read
    for number, row in lines:
        where = f"{file}, line {number}"
        _check_columns(where, row)
        if LEFT_OUT.fullmatch(row[ID]):
            continue
        if token := TOKEN.fullmatch(row[ID]):
            begin, token_end = _range(where, token, len(words), token_end)
            forms = [r[FORM] for _, r in lines if WORD.fullmatch(r[ID]) and begin <= int(r[ID]) <= token_end]
            offsets += _split(row[FORM], len(text), forms)
            text += row[FORM] + _space(row)
            continue
        if row[ID] != str(len(words) + 1):
            raise ConfigurationError(f"{where}: word {row[ID]!r}, where word {len(words) + 1} was expected")
        if not WORD.fullmatch(row[HEAD]):
            raise ConfigurationError(f"{where}: head {row[HEAD]!r} of word {row[ID]}; a number, 0 for the root")
        words.append(row)
        if len(words) > token_end:
            offsets.append((len(text), len(text) + len(row[FORM])))
            text += row[FORM] + _space(row)
    where = f"{file}, line {lines[0].number}"
    if len(words) < max(1, token_end):
        raise ConfigurationError(f"{where}: the sentence has no word {len(words) + 1}, which was expected")
    heads = [int(row[HEAD]) - 1 for row in words]
    _check_tree(where, heads)
    columns = ([row[column] for row in words] for column in (FORM, DEPREL, UPOS))
    forms, relations, parts = columns
    universal = tuple(relation.partition(":")[0] for relation in relations)
    return Sentence(text.rstrip(), tuple(forms), tuple(offsets), tuple(heads), universal, tuple(parts))


def _check_columns(where: str, row: Sequence[str]) -> None:
    if len(row) != COLUMNS:
        raise ConfigurationError(f"{where}: {len(row)} columns between tabs, and CoNLL-U has {COLUMNS}")
    if empty := [str(column + 1) for column in (FORM, UPOS, DEPREL) if not row[column]]:
        raise ConfigurationError(f"{where}: column {empty[0]} is empty; CoNLL-U writes _ where there is nothing")


def _range(where: str, token: re.Match[str], words: int, token_end: int) -> tuple[int, int]:
    """The first and the last word of a token of several words, which stands before them."""
    begin, end = int(token[1]), int(token[2])
    if begin != words + 1 or begin <= token_end or end < begin:
        raise ConfigurationError(
            f"{where}: token {token[0]}; a token of several words stands before its words, here from word "
            f"{max(words, token_end) + 1} on"
        )
    return begin, end


def _split(token: str, start: int, forms: Sequence[str]) -> list[tuple[int, int]]:
    """Offsets of a token's words: parts of it where their forms make it up (`did` and `n't`), else all of it for each."""
    if "".join(forms).lower() != token.lower():
        return [(start, start + len(token))] * len(forms)
    offsets = []
    for form in forms:
        offsets.append((start, start + len(form)))
        start += len(form)
    return offsets


def _space(row: Sequence[str]) -> str:
    return "" if "SpaceAfter=No" in row[MISC].split("|") else " "


def _check_tree(where: str, heads: Sequence[int]) -> None:
    """One root, every head a word of the sentence, and no circle."""
    if heads.count(-1) != 1 or max(heads) >= len(heads):
        raise ConfigurationError(
            f"{where}: not a tree of {len(heads)} words: {heads.count(-1)} roots, largest head {max(heads) + 1}"
        )
    for word in range(len(heads)):
        steps, current = 0, word
        while current >= 0 and steps <= len(heads):
            current, steps = heads[current], steps + 1
        if steps > len(heads):
            raise ConfigurationError(f"{where}: the heads of word {word + 1} go in a circle")
