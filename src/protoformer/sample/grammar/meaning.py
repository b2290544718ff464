"""What a sentence of the sample says, apart from how it says it."""

import zlib
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any, Literal

from protoformer.sample.grammar.lexicon import ADJECTIVES, AGENTS, KIND, MANNERS, PLACES, THINGS, TIMES, VERBS

Genre = Literal["town", "country"]


@dataclass(frozen=True)
class Event:
    """Somebody did (or did not do) something to a thing; what is None is left unsaid."""

    agent: str
    verb: str
    thing: str
    agent_adjective: str | None = None
    thing_adjective: str | None = None
    place: str | None = None
    time: str | None = None
    manner: str | None = None
    negated: bool = False

    @property
    def core(self) -> tuple[str, str, str]:
        """Who, what, whom: decides which split an event may stand in."""
        return self.agent, self.verb, self.thing

    def said(self) -> list[str]:
        """Names of the optional parts that are said."""
        return [name for name in OPTIONAL if getattr(self, name) is not None]


VISITS = 0.3  # fraction of what happens in town that is told with the country's words
OPTIONAL = [field.name for field in fields(Event) if field.default is None]


def draw(random: Random, genre: Genre = "town", said: float = 0.5, negated: float = 0.0) -> Event:
    """A random event; each optional part is said with probability `said`."""
    genre = effective_genre(genre, random)

    def perhaps(words: list[str]) -> str | None:
        return random.choice(words) if random.random() < said else None

    return Event(
        agent=random.choice(AGENTS),
        verb=random.choice(list(VERBS)),
        thing=random.choice(THINGS),
        agent_adjective=perhaps(ADJECTIVES["agent"]),
        thing_adjective=perhaps(ADJECTIVES["thing"]),
        place=perhaps(PLACES[genre]),
        time=perhaps(TIMES[genre]),
        manner=perhaps(MANNERS) if said < 1 else None,
        negated=random.random() < negated,
    )


def effective_genre(genre: Genre, random: Random) -> Genre:
    """Whose words are used: in town the country's are rarer than its own, not unknown."""
    return "country" if genre == "town" and random.random() < VISITS else genre


def bucket(content: object) -> int:
    """0 to 9, the same on every machine; splits own buckets, so no content stands in two splits."""
    return zlib.crc32(repr(content).encode()) % 10


def words_for(name: str, genre: Genre) -> list[str]:
    """What may fill an optional part."""
    return {
        "agent_adjective": ADJECTIVES["agent"],
        "thing_adjective": ADJECTIVES["thing"],
        "place": PLACES[genre],
        "time": TIMES[genre],
        "manner": MANNERS,
    }[name]


def realise(event: Event, *, passive: bool = False, synonym: bool = False) -> str:
    """The event as a sentence, lower-case, with a full stop."""
    agent, thing = noun_phrases(event)
    verb = VERBS[event.verb]
    base, past, participle = verb.other if synonym else (verb.base, verb.past, verb.participle)
    manner = f" {event.manner}" if event.manner else ""
    tail = "".join(f" {part}" for part in (event.place, event.time) if part)
    if passive:
        auxiliary = "was not" if event.negated else "was"
        return f"{thing} {auxiliary}{manner} {participle} by {agent}{tail} ."
    action = f"did not{manner} {base}" if event.negated else f"{manner.strip()} {past}".strip()
    return f"{agent} {action} {thing}{tail} ."


def noun_phrases(event: Event) -> tuple[str, str]:
    """Who and what, with their adjectives."""
    agent = f"{event.agent_adjective} {event.agent}" if event.agent_adjective else event.agent
    thing = f"{event.thing_adjective} {event.thing}" if event.thing_adjective else event.thing
    return f"the {agent}", f"the {thing}"


def generalised(event: Event, role: Literal["agent", "thing"]) -> Event:
    """The same with a noun's kind in its place (a kind stays itself)."""
    noun = getattr(event, role)
    return replace(event, **{role: KIND.get(noun, noun)})


def without(event: Event, names: list[str]) -> Event:
    """The same with some optional parts unsaid."""
    nothing: dict[str, Any] = dict.fromkeys(names)
    return replace(event, **nothing)
