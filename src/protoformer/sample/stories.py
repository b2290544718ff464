"""A corpus to pretrain on: documents whose sentences hang together, and say in passing how the words are related.

The same people and things come back; a deed is told again in other words, by what it implies, by the denial of its
opposite; works are praised or blamed throughout. Only deeds of the training splits' buckets are told (their opposites
too), so that a task's validation rows are not read beforehand.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

import pyarrow as pa

from protoformer.sample.choices import HELPING, HINDERING
from protoformer.sample.glue import Rows, article, judgement, question
from protoformer.sample.grammar.consequences import FEELINGS, feeling, reason, reverse, settled
from protoformer.sample.grammar.inference import spoken, weakened
from protoformer.sample.grammar.lexicon import (
    ADJECTIVES,
    AGENTS,
    ASPECTS,
    BAD,
    CONTAINERS,
    DEGREES,
    GOOD,
    KIND,
    MANNERS,
    OPPOSITE,
    PRAISED,
    VERBS,
    WHEN,
    WHERE,
)
from protoformer.sample.grammar.meaning import Event, bucket, realise

Document = tuple[str, list[list[str]]]  # its title, its paragraphs
REVIEWS = 0.3  # fraction of the documents that praise and blame
BOOKCORPUS = pa.schema([("text", pa.string())])
WIKIPEDIA = pa.schema([(name, pa.string()) for name in ("id", "url", "title", "text")])


def bookcorpus(random: Random, buckets: range) -> Rows:
    """A sentence a row, document after document."""
    while True:
        for paragraph in document(random, buckets)[1]:
            yield from ({"text": sentence} for sentence in paragraph)


def wikipedia(random: Random, buckets: range) -> Rows:
    """A document a row, its paragraphs set apart by an empty line, its sentences beginning with a capital."""
    number = 0
    while True:
        title, paragraphs = document(random, buckets)
        text = "\n\n".join(" ".join(capitalised(sentence) for sentence in paragraph) for paragraph in paragraphs)
        number += 1
        yield {"id": str(number), "url": f"https://example.org/wiki/{number}", "title": title, "text": text}


def capitalised(sentence: str) -> str:
    """With a capital at its beginning, and after a question mark."""
    return " ? ".join(part[0].upper() + part[1:] for part in sentence.split(" ? "))


def document(random: Random, buckets: range) -> Document:
    """Four to twelve sentences in paragraphs of up to five."""
    length = random.randint(4, 12)
    title, remaining = review(random, buckets) if random.random() < REVIEWS else tale(random, buckets)
    paragraphs: list[list[str]] = []
    while length:
        paragraph = next(remaining)[:length]
        paragraphs.append(paragraph)
        length -= len(paragraph)
    return title, paragraphs


def tale(random: Random, buckets: range) -> tuple[str, Iterator[list[str]]]:
    """What one person did, and others with the same things."""
    known = settled(buckets)
    hero = random.choice(AGENTS)
    places, times = random.sample(WHERE, 2), random.sample(WHEN, 2)

    def paragraphs() -> Iterator[list[str]]:
        facts, seen = Facts(random, buckets), set[tuple[str, str]]()
        core = random.choice(known[hero])
        while True:
            agent, _, thing = core
            seen.add((agent, thing))
            event = Event(
                *core,
                agent_adjective=facts.look(agent, "agent") if random.random() < 0.5 else None,
                thing_adjective=facts.look(thing, "thing") if random.random() < 0.5 else None,
                place=random.choice(places) if random.random() < 0.7 else None,
                time=random.choice(times) if random.random() < 0.5 else None,
                manner=random.choice(MANNERS) if random.random() < 0.2 else None,
                negated=random.random() < 0.15,
            )
            yield episode(event, facts, random)
            while (core[0], core[2]) in seen:  # the same person again, or the same thing
                core = random.choice(known[hero if random.random() < 0.6 else thing])

    return f"The {hero}", paragraphs()


class Facts:
    """What people and things of a tale are like: nothing is said of them that goes against it."""

    def __init__(self, random: Random, buckets: range) -> None:
        self.random, self.buckets = random, buckets
        self.known: dict[str, set[str]] = {}

    def look(self, noun: str, role: str) -> str:
        """One of the adjectives that are true of a noun, a new one where none is."""
        return self.random.choice(sorted(self.known.setdefault(noun, {self.random.choice(ADJECTIVES[role])})))

    def holds(self, noun: str, adjective: str) -> bool:
        """Whether that may be said, which is then known."""
        known = self.known.setdefault(noun, set())
        if OPPOSITE[adjective] in known:
            return False
        known.add(adjective)
        return True


def episode(event: Event, facts: Facts, random: Random) -> list[str]:
    """A deed and up to four remarks on it."""
    passive, synonym = random.random() < 0.3, random.random() < 0.3
    sentences = [realise(event, passive=passive, synonym=synonym)]
    length = random.randint(2, 5)
    if random.random() < 0.5:
        sentences.append(realise(event, passive=not passive, synonym=not synonym))  # in other words
    for remark in random.sample(REMARKS, len(REMARKS)):
        if len(sentences) < length and (sentence := remark(event, facts, random)) and sentence not in sentences:
            sentences.append(sentence)
    return sentences


def implied(event: Event, facts: Facts, random: Random) -> str:
    return spoken(weakened(event, random), random)


def ruled_out(event: Event, facts: Facts, random: Random) -> str | None:
    """What was bought was not sold."""
    if event.negated:
        return None
    return spoken(replace(weakened(event, random), verb=reverse(event.verb), negated=True), random)


def characterised(event: Event, facts: Facts, random: Random) -> str:
    """Heavy, and so not light."""
    noun, role = random.choice(((event.agent, "agent"), (event.thing, "thing")))
    look, degree = facts.look(noun, role), random.choice(DEGREES)
    contrary = OPPOSITE[look]
    return random.choice(
        (
            f"the {noun} was {degree}{look} .",
            f"the {noun} was not {contrary} .",
            f"the {noun} was {degree}{look} , not {contrary} .",
            f"the {look} {noun} was not {contrary} .",
        )
    )


def classed(event: Event, facts: Facts, random: Random) -> str:
    noun = random.choice((event.agent, event.thing))
    return f"the {noun} was {article(KIND[noun])} ."


def felt(event: Event, facts: Facts, random: Random) -> str | None:
    if event.verb not in FEELINGS or not facts.holds(event.agent, feeling(event)):
        return None
    done = f"the {event.thing} was{' not' if event.negated else ''} {VERBS[event.verb].participle}"
    why = f" because {done}" if random.random() < 0.6 else ""
    return f"the {event.agent} was {random.choice(DEGREES)}{feeling(event)}{why} ."


def explained(event: Event, facts: Facts, random: Random) -> str | None:
    if event.thing_adjective or not facts.holds(event.thing, reason(event)):
        return None
    done = f"the {event.thing} was{' not' if event.negated else ''} {VERBS[event.verb].participle}"
    return f"{done} because it was {random.choice(HINDERING if event.negated else HELPING)}{reason(event)} ."


def singled_out(event: Event, facts: Facts, random: Random) -> str | None:
    if event.negated:
        return None
    thing = " ".join(filter(None, (event.thing_adjective, event.thing)))
    deed = VERBS[event.verb].other[1] if random.random() < 0.3 else VERBS[event.verb].past
    return f"what the {event.agent} {deed} was {' '.join(filter(None, (article(thing), event.place)))} ."


def questioned(event: Event, facts: Facts, random: Random) -> str | None:
    """A question with its answer."""
    said = [part for part in ("agent", "place", "time") if getattr(event, part)]
    if event.negated:
        return None
    part = random.choice(said)
    answer = f"the {event.agent}" if part == "agent" else getattr(event, part)
    return f"{question(event, part, random.random() < 0.3)} {answer} ."


def fitted(event: Event, facts: Facts, random: Random) -> str | None:
    container, size = random.choice(CONTAINERS), random.choice(("big", "large", "wide"))
    if bucket((event.thing, container)) not in facts.buckets:
        return None
    if random.random() < 0.5:
        why = f"the {container} was too {random.choice(('small', 'narrow'))}"
    elif facts.holds(event.thing, "big"):
        why = f"it was too {size}"
    else:
        return None
    return f"the {event.thing} did not fit into the {container} because {why} ."


Remark = Callable[[Event, Facts, Random], str | None]
REMARKS: tuple[Remark, ...] = (
    *(implied, ruled_out, characterised, classed, felt),
    *(explained, singled_out, questioned, fitted),
)


def review(random: Random, buckets: range) -> tuple[str, Iterator[list[str]]]:
    """What somebody in a good or a bad mood thought of one work after another."""
    critic, works, label = random.choice(AGENTS), random.sample(PRAISED, len(PRAISED)), random.randrange(2)

    def paragraphs() -> Iterator[list[str]]:
        for work in works:
            sentences, length = dict[str, None](), random.randint(2, 5)
            while len(sentences) < length:
                sentence = (
                    judgement(label, random, work) if random.random() < 0.5 else opinion(label, random, work, critic)
                )
                if bucket(sentence) in buckets and (sentences or work in sentence.split()):  # buckets as the task's
                    sentences[sentence.replace(" !", " it was .")] = None
            yield list(sentences)

    return f"The {works[0]}", paragraphs()


def opinion(label: int, random: Random, work: str, critic: str) -> str:
    """Praise (1) or blame (0) in further words, and how it left whoever gives it."""
    right, wrong = (GOOD, BAD) if label else (BAD, GOOD)
    own, more, opposite = random.choice(right), random.choice(right), random.choice(wrong)
    degree, aspect = random.choice(DEGREES), random.choice(ASPECTS)
    return random.choice(
        (
            f"the {critic} found the {work} {degree}{own} .",
            f"the {critic} was {'happy' if label else 'sad'} because the {work} was {degree}{own} .",
            f"the {work} was {own} , not {opposite} .",
            f"the {work} was {own} because its {aspect} was {degree}{more} .",
            f"its {aspect} was {degree}{own} , rather {more} .",
        )
    )
