"""Invertible de-tokenisers: spaces and marks that corpora were given, taken out so that the text can be put back as it was.

Radford et al. (2019, section 3.1) score de-tokenised text and divide by the original's count of tokens, which is sound where
nothing is lost. Their rules were not published; those named here undo what the rules of Megatron-LM (`wikitext_detokenizer`,
`ptb_detokenizer`) and of lm-evaluation-harness undo, in a form with an inverse.

A de-tokeniser joins neighbouring tokens into a word, and only where its inverse, which cuts a word into tokens, gives back the
very same tokens; all others stay as they are. So the original of a text is its words, cut again. A token that the inverse
would itself cut is ambiguous: it stays, and is counted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from protoformer.errors import ConfigurationError

# what each rule undoes
RULES: Mapping[str, str] = {
    "separators": "marked separators: @-@, @,@ and @.@ within words and numbers",
    "punctuation": "spaces before . , ; : ! ? and %, and inside of brackets",
    "quotes": 'spaces inside of " quotes ", by turns in a line',
    "latex_quotes": "the quotes `` and '', and the spaces inside of them",
    "clitics": "spaces before 's, 're, 't and the like",
    "negations": "spaces before n't",
    "currency": "spaces behind $ and #",
    "numbers": "N in a number's place, as the number 1",
    "line_spaces": "a space at both ends of a line",
    "unknown_words": "<unk>, as the word UNK",
}
CLOSING, OPENING = (*".,;:!?%)]}", "..."), tuple("([{")
MARKED = {"@-@": "-", "@,@": ",", "@.@": "."}
CLITICS = ("'s", "'S", "'re", "'ve", "'ll", "'d", "'m", "'t", "'")
NEGATION = "n't"
CURRENCY = ("$", "#")
LATEX_QUOTES = ("``", "''")
# words that a full stop belongs to, besides single letters and words with a full stop inside
ABBREVIATIONS = frozenset([
    "mr", "mrs", "ms", "dr", "st", "jr", "sr", "prof", "gen", "col", "lt", "sgt", "capt", "cmdr", "adm", "maj", "rev",
    "hon", "gov", "sen", "rep", "no", "nos", "vs", "etc", "inc", "ltd", "co", "corp", "bros", "ft", "mt", "op", "vol",
    "pp", "ed", "eds", "approx", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec",
    "ca", "cf", "al", "dept", "univ", "est", "fig", "messrs",
])  # fmt: skip
NUMBER = re.compile(r"(?<![A-Za-z])N(?![A-Za-z])")


@dataclass
class Undone:
    """Tokens of texts that were de-tokenised: all, those that were joined or replaced, and the ambiguous ones."""

    tokens: int = 0
    changed: int = 0
    ambiguous: int = 0


@dataclass(frozen=True)
class InvertibleDetokenizer:
    """A de-tokeniser of these rules (`RULES`). Raises ConfigurationError for an unknown one."""

    rules: Sequence[str]
    undone: Undone = field(default_factory=Undone, compare=False)

    def __post_init__(self) -> None:
        if unknown := [name for name in self.rules if name not in RULES]:
            raise ConfigurationError(f"no de-tokeniser {unknown[0]!r}; there are {', '.join(RULES)}")

    def __call__(self, text: str) -> str:
        """The text, line by line."""
        return "\n".join(map(self._line, text.split("\n")))

    def inverse(self, text: str) -> str:
        """The original of a de-tokenised text."""
        return "\n".join(self._original(line) for line in text.split("\n"))

    def _original(self, line: str) -> str:
        original = " ".join(token for word in line.split(" ") for token in self.tokens(word))
        return f" {original} " if original and "line_spaces" in self.rules else original

    def _line(self, line: str) -> str:
        if line and "line_spaces" in self.rules:
            self.undone.ambiguous += not (line.startswith(" ") and line.endswith(" ") and len(line) > 2)
            line = line.removeprefix(" ").removesuffix(" ")
        tokens = line.split(" ")
        words = []
        for group in self._groups(tokens):
            word = self._joined(group)
            if self.tokens(word) == group:
                words.append(word)
                self.undone.changed += len(group) if [word] != group else 0
                continue
            for token in group:  # each by itself
                alone = self._joined([token])
                is_kept = self.tokens(alone) == [token]
                self.undone.ambiguous += not is_kept
                words.append(alone if is_kept else token)
        self.undone.tokens += len(tokens)
        return " ".join(words)

    def _groups(self, tokens: Sequence[str]) -> Iterator[list[str]]:
        """Tokens that belong together, as far as the rules say."""
        group: list[str] = []
        joins_next = in_quotes = False
        for token in tokens:
            joins_previous, joins_following = self._joins(token, in_quotes)
            in_quotes ^= token == '"'
            if group and (joins_next or joins_previous) and group[-1] and token:
                group.append(token)
            else:
                if group:
                    yield group
                group = [token]
            joins_next = joins_following
        if group:
            yield group

    def _joins(self, token: str, in_quotes: bool) -> tuple[bool, bool]:
        """Whether a token joins the one before it, and the one after it."""
        has = self.rules.__contains__
        if has("separators") and token in MARKED:
            return True, True
        if has("quotes") and token == '"':
            return in_quotes, not in_quotes
        if has("latex_quotes") and token in LATEX_QUOTES:
            return token == LATEX_QUOTES[1], token == LATEX_QUOTES[0]
        if has("punctuation") and token in OPENING:
            return False, True
        closes = (has("punctuation") and token in CLOSING) or (has("clitics") and token in CLITICS)
        closes |= has("negations") and token == NEGATION
        return closes, has("currency") and token in CURRENCY

    def _joined(self, group: Sequence[str]) -> str:
        return "".join(self._replaced(token) for token in group)

    def _replaced(self, token: str) -> str:
        if "separators" in self.rules and token in MARKED:
            return MARKED[token]
        if "unknown_words" in self.rules and token == "<unk>":
            return "UNK"
        if "latex_quotes" in self.rules and token in LATEX_QUOTES:
            return '"'
        return NUMBER.sub("1", token) if "numbers" in self.rules else token

    def tokens(self, word: str) -> list[str]:
        """The tokens that a word was made of: the inverse."""
        before: list[str] = []
        after: list[str] = []
        while (cut := self._first(word)) is not None:
            before.append(cut)
            word = word[len(cut) :]
        while (cut := self._last(word)) is not None:
            after.append(cut)
            word = word[: -len(cut)]
        opening, closing = LATEX_QUOTES if "latex_quotes" in self.rules else '""'
        return [
            *(opening if each == '"' else each for each in before),
            *self._inner(word),
            *(closing if each == '"' else each for each in reversed(after)),
        ]

    def _first(self, word: str) -> str | None:
        """The token at a word's beginning that is cut off."""
        has = self.rules.__contains__
        marks = (OPENING if has("punctuation") else ()) + (('"',) if has("quotes") or has("latex_quotes") else ())
        marks += CURRENCY if has("currency") else ()
        return next((mark for mark in marks if word.startswith(mark) and len(word) > len(mark)), None)

    def _last(self, word: str) -> str | None:
        """The token at a word's end that is cut off; full stops alone are one token."""
        if not word.strip("."):
            return None
        has = self.rules.__contains__
        marks = (("...", *CLOSING[:-1]) if has("punctuation") else ()) + (
            ('"',) if has("quotes") or has("latex_quotes") else ()
        )
        marks += (NEGATION,) if has("negations") else ()
        marks += CLITICS if has("clitics") else ()
        for mark in marks:
            if word.endswith(mark) and len(word) > len(mark) and not (mark == "." and _is_abbreviation(word)):
                return mark
        return None

    def _inner(self, word: str) -> list[str]:
        """The tokens around separators within a word."""
        if "separators" not in self.rules or not word:
            return [self._read(word)]
        parts = re.split(r"((?<=.)-(?=.)|(?<=\d)[,.](?=\d))", word)
        marked = {text: mark for mark, text in MARKED.items()}
        return [marked[part] if index % 2 else self._read(part) for index, part in enumerate(parts)]

    def _read(self, token: str) -> str:
        if "unknown_words" in self.rules and token == "UNK":
            return "<unk>"
        return re.sub(r"(?<!\d)1(?!\d)", "N", token) if "numbers" in self.rules else token


def _is_abbreviation(word: str) -> bool:
    stem = word.removesuffix(".")
    return (len(stem) == 1 and stem.isalpha()) or "." in stem.strip(".") or stem.lower() in ABBREVIATIONS
