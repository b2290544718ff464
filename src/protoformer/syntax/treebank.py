"""Treebanks in CoNLL-U, the format of Universal Dependencies (https://universaldependencies.org/format.html).

A line is a word of ten columns, a blank line ends a sentence, `#` begins a comment. Words are numbered from 1. `3-4` is a token
of the text that is two words (`don't`), `5.1` a word that the text leaves out; the arcs of the basic tree join plain numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from protoformer.errors import ConfigurationError

ID, FORM, UPOS, HEAD, DEPREL, MISC = 0, 1, 3, 6, 7, 9
COLUMNS = 10
PUNCTUATION = "PUNCT"


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
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file}: byte {error.start} is no UTF-8") from None
    return parse(text, str(file))


def parse(text: str, name: str) -> list[Sentence]:
    """All sentences of a text; errors name it `name`."""
    sentences = [_sentence(name, first, lines) for first, lines in _blocks(text)]
    if not sentences:
        raise ConfigurationError(f"{name}: there is no sentence in it")
    return sentences


def _blocks(text: str) -> Iterator[tuple[int, list[list[str]]]]:
    """Sentences as the number of their first line, from 1, and the columns of their lines without comments."""
    first, rows = 1, list[list[str]]()
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        line = line.rstrip("\r")
        if line.strip() and not line.startswith("#"):
            first = number if not rows else first
            rows.append(line.split("\t"))
        elif not line.strip() and rows:
            yield first, rows
            rows = []


def _sentence(file: str, first: int, rows: Sequence[Sequence[str]]) -> Sentence:
    text, words, offsets = "", list[Sequence[str]](), list[tuple[int, int]]()
    token_end = 0  # the last word of the token of several words that is being read
    for number, row in enumerate(rows, start=first):
        where = f"{file}, line {number}"
        if len(row) != COLUMNS:
            raise ConfigurationError(f"{where}: {len(row)} columns between tabs, and CoNLL-U has {COLUMNS}")
        if "." in row[ID]:
            continue
        begin, _, end = row[ID].partition("-")
        if end:
            token_end, inside = int(end), [r for r in rows if r[ID].isdigit() and int(begin) <= int(r[ID]) <= int(end)]
            offsets += _split(row[FORM], len(text), [r[FORM] for r in inside])
            text += row[FORM] + _space(row)
            continue
        if begin != str(len(words) + 1) or not row[HEAD].isdigit():
            raise ConfigurationError(
                f"{where}: word {row[ID]!r} with head {row[HEAD]!r}; word {len(words) + 1} was expected"
            )
        words.append(row)
        if len(words) > token_end:
            offsets.append((len(text), len(text) + len(row[FORM])))
            text += row[FORM] + _space(row)
    heads = [int(row[HEAD]) - 1 for row in words]
    _check_tree(f"{file}, line {first}", heads)
    columns = ([row[column] for row in words] for column in (FORM, DEPREL, UPOS))
    forms, relations, parts = columns
    universal = tuple(relation.partition(":")[0] for relation in relations)
    return Sentence(text.rstrip(), tuple(forms), tuple(offsets), tuple(heads), universal, tuple(parts))


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
