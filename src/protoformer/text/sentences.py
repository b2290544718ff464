"""What a text is cut into before it is tokenised: sentences, or pieces that are the text again when joined.

Sentences are found by rules alone, for languages that end them with . ! ? and begin them with a capital.

What BERT's pretraining calls a sentence need not be one (arXiv 1810.04805, section 3.1: "an arbitrary span of contiguous
text"): a border missed now and then costs nothing.
"""

import re

BORDER = re.compile(r"""[.!?…]+["'”\u2019»)\]]*\s+(?=["'“\u2018«(\[]*([^\W_]))""")
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
    found, begin = [], 0
    while len(text) - begin > longest:
        end = _space(text, begin + 1, begin + longest) or begin + longest
        found.append(text[begin:end])
        begin = end
    return [*found, text[begin:]]


def _space(text: str, begin: int, end: int) -> int:
    """The last space between two that are none; 0 where there is no such place."""
    place = text.rfind(" ", begin, end)
    while place > 0 and (text[place - 1].isspace() or text[place + 1 : place + 2].isspace()):
        place = text.rfind(" ", begin, place)
    return max(place, 0)


def sentences(document: str) -> list[str]:
    """In order, without the white space around them. A line's end always ends a sentence."""
    found = []
    for line in re.split(r"[\r\n]+", document):
        start = 0
        for border in BORDER.finditer(line):
            sentence = line[start : border.end()].strip()
            if _ends(sentence, border[1]):
                found.append(sentence)
                start = border.end()
        found.append(line[start:].strip())
    return [sentence for sentence in found if sentence]


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
