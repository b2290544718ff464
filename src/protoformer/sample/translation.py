"""Parallel text in miniature: the sample's English, and a second language that is made by rule and spoken nowhere.

Its words are the English ones with other letters. The verb stands last, an adjective after its noun, what says when and where
first and in front of its preposition. Nouns have one of three genders, which article and adjective agree with, and the
article tells who acts from what is acted upon. It stands where a data set has German or French.
"""

import zlib
from collections.abc import Iterator
from random import Random

import pyarrow as pa

from protoformer.sample.glue import Rows
from protoformer.sample.grammar.lexicon import VERBS
from protoformer.sample.grammar.meaning import Event, bucket, draw, realise

ALPHABET = str.maketrans("abcdefghijklmnopqrstuvwxyz", "odfgaklmbnprstiuvwzxeqhyjc")
ARTICLES = {"subject": ("lo", "la", "le"), "object": ("lon", "lam", "les")}  # by gender
ENDINGS = ("o", "a", "e")
PASSIVE, ACTIVE, NOT, BY = "ta", "ti", "nee", "fra"


def foreign(word: str) -> str:
    """A word's stem in the other language; no two words have the same."""
    return word.translate(ALPHABET)


def gender(noun: str) -> int:
    """0 to 2, the same on every machine."""
    return zlib.crc32(noun.encode()) % 3


def noun_phrase(noun: str, adjective: str | None, role: str) -> str:
    """Article, noun and adjective, all of the noun's gender."""
    kind = gender(noun)
    look = [] if adjective is None else [foreign(adjective) + ENDINGS[kind]]
    return " ".join([ARTICLES[role][kind], foreign(noun), *look])


def circumstance(phrase: str) -> str:
    """When or where: the words from the last to the first, without an article."""
    return " ".join(foreign(word) for word in reversed(phrase.split()) if word != "the")


def translated(event: Event, *, passive: bool = False, synonym: bool = False) -> str:
    """The event in the other language, as `realise` says it in English."""
    verb = VERBS[event.verb]
    stem = foreign(verb.other[0] if synonym else verb.base)
    agent = noun_phrase(event.agent, event.agent_adjective, "object" if passive else "subject")
    thing = noun_phrase(event.thing, event.thing_adjective, "subject" if passive else "object")
    sides = [thing, f"{BY} {agent}"] if passive else [agent, thing]
    before = [circumstance(phrase) for phrase in (event.time, event.place) if phrase]
    manner = [foreign(event.manner)] if event.manner else []
    return " ".join(
        [*before, *sides, *manner, *([NOT] if event.negated else []), stem + (PASSIVE if passive else ACTIVE), "."]
    )


def pairs(random: Random, buckets: range) -> Iterator[tuple[str, str]]:
    """Sentences in English and in the other language; a split tells of no event that another one tells of."""
    while True:
        event = draw(random, random.choice(("town", "country")), said=0.4, negated=0.2)
        passive, synonym = random.random() < 0.3, random.random() < 0.3
        if bucket(event.core) in buckets:
            yield realise(event, passive=passive, synonym=synonym), translated(event, passive=passive, synonym=synonym)


def columns(random: Random, buckets: range) -> Rows:
    """In Multi30k's schema."""
    for english, other in pairs(random, buckets):
        yield {"en": english, "de": other}


def structs(random: Random, buckets: range, language: str) -> Rows:
    """In WMT's schema."""
    for english, other in pairs(random, buckets):
        yield {"translation": {language: other, "en": english}}


MULTI30K = pa.schema([("en", pa.string()), ("de", pa.string())])


def wmt(language: str) -> pa.Schema:
    return pa.schema([("translation", pa.struct([(language, pa.string()), ("en", pa.string())]))])
