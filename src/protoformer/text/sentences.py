"""Splitting a text before it is tokenised: into sentences, or into pieces whose concatenation is the text.

Sentences are found by rules alone, for languages that end them with . ! ? and begin them with a capital.

What BERT's pretraining calls a sentence need not be one (arXiv 1810.04805, section 3.1: "an arbitrary span of contiguous
text"): a boundary missed now and then costs nothing.
"""

import re

BOUNDARY = re.compile(r"""[.!?…]+["'”\u2019»)\]]*\s+(?=["'“\u2018«(\[]*([^\W_]))""")
OPENING = "\"'“\u2018«(["
INITIALS = re.compile(r"([^\W\d_]\.)+")  # J. R. Smith, the U.S. Army, 3 p.m. Monday
ITEM = re.compile(r"\d{1,3}\.")  # "1. Introduction": the number of what follows
ABBREVIATION = re.compile(
    r"(Mr|Mrs|Ms|Messrs|Dr|Prof|Rev|Fr|Hon|St|Ste|Mt|Gen|Maj|Col|Capt|Cpt|Lt|Sgt|Cpl|Cmdr|Adm|Gov|Sen|Rep|Pres|Supt"
    r"|[Vv]s|[Vv]iz|[Cc]f|al|[Cc]a|approx|[Dd]ept|Univ|Assn|Bros|Ft|Ave|Blvd"
    r"|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\."
)
NUMBERED = re.compile(r"([Nn]os?|[Ff]igs?|[Vv]ols?|[Cc]h|[Ss]ec|[Aa]rt|[Ee]q|[Pp]p|[Ee]d)\.")  # when a number follows
PIECE = 1 << 16  # characters


def pieces(text: str, longest: int = PIECE) -> list[str]:
    """The text in pieces of at most `longest` characters, cut before a single space where there is one.

    There every vocabulary here begins a new word, so the pieces' tokens are those of the whole.
    """
    parts, begin = [], 0
    while len(text) - begin > longest:
        end = _last_single_space(text, begin + 1, begin + longest) or begin + longest
        parts.append(text[begin:end])
        begin = end
    return [*parts, text[begin:]]


def _last_single_space(text: str, begin: int, end: int) -> int:
    """Index of the last space without white space beside it; 0 where there is none."""
    index = text.rfind(" ", begin, end)
    while index > 0 and (text[index - 1].isspace() or text[index + 1 : index + 2].isspace()):
        index = text.rfind(" ", begin, index)
    return max(index, 0)


def sentences(document: str) -> list[str]:
    """In order, without the white space around them. A line's end always ends a sentence."""
    stripped = []
    for line in re.split(r"[\r\n]+", document):
        start = 0
        for boundary in BOUNDARY.finditer(line):
            sentence = line[start : boundary.end()].strip()
            if _ends(sentence, boundary[1]):
                stripped.append(sentence)
                start = boundary.end()
        stripped.append(line[start:].strip())
    return [sentence for sentence in stripped if sentence]


def _ends(sentence: str, following: str) -> bool:
    """Whether the stop at the end of `sentence` is more than an abbreviation's; `following` is the next letter or digit."""
    if following.islower():
        return False
    if not sentence.endswith("."):
        return True
    word = sentence[-24:].rsplit(None, 1)[-1].lstrip(OPENING)
    if ABBREVIATION.fullmatch(word) or INITIALS.fullmatch(word) or (ITEM.fullmatch(word) and len(sentence) <= 5):
        return False
    return not (following.isdigit() and NUMBERED.fullmatch(word))
