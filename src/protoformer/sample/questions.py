"""SQuAD in miniature: short stories, and questions whose answers are spans of them or (v2.0) are left unsaid."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pyarrow as pa

from protoformer.sample.glue import Row, Rows
from protoformer.sample.grammar.consequences import cores, reverse
from protoformer.sample.grammar.inference import spoken
from protoformer.sample.grammar.lexicon import ADJECTIVES, VERBS, WHEN, WHERE
from protoformer.sample.grammar.meaning import Event, bucket, noun_phrases, without

ROLES = ("agent", "verb", "thing")
SHARED = (*((),) * 5, ("agent",), ("thing",), ("agent", "thing"), ("agent", "verb"), ("verb", "thing"))
LOOKS = ("agent_adjective", "thing_adjective")
LENGTHS = (3, 3, 3, 4, 4, 5, 6)  # sentences of a story: most are short
QUESTION_PARTS = ("place", "time", "agent", "thing")
LEADING = ("in", "at", "on", "near", "by", "the")  # what an acceptable answer may leave out
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "title", "context", "question")),
        ("answers", pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])),
    ]
)


def squad(random: Random, buckets: range, answers: int, unanswerable: float = 0.0) -> Rows:
    """Up to three questions a story, each with at most `answers` wordings of its answer; a fraction has none."""
    while True:
        events = story(random, buckets)
        sentences = [spoken(event, random) for event in events]
        context, seen = " ".join(sentences), set[str]()
        for _ in range(3):
            question_parts = inquiry(events, random, buckets, unanswerable)
            if question_parts is None or question_parts[0] in seen:
                continue
            question, event, part = question_parts
            seen.add(question)
            row: Row = {"id": f"{random.getrandbits(96):024x}", "title": events[0].agent}
            texts, starts = span(events, sentences, event, part) if event else ([], [])
            kept = slice(random.randint(1, answers))
            row |= {"context": context, "question": question}
            yield row | {"answers": {"text": texts[kept], "answer_start": starts[kept]}}


def story(random: Random, buckets: range) -> list[Event]:
    """Three to six events that share who, what or whom, each at a place and a time of its own or of none."""
    length, known = random.choice(LENGTHS), cores(buckets)
    chosen = [random.choice(known)]
    while len(chosen) < length:
        fresh, near, shared = random.choice(known), random.choice(chosen), random.choice(SHARED)
        agent, verb, thing = (near[i] if role in shared else fresh[i] for i, role in enumerate(ROLES))
        core = (agent, verb, thing)
        if bucket(core) in buckets and core not in chosen:
            chosen.append(core)
    random.shuffle(chosen)
    looks: dict[str, str | None] = {}
    for agent, _, thing in chosen:
        looks.setdefault(agent, _perhaps(random.choice(ADJECTIVES["agent"]), random, 0.6))
        looks.setdefault(thing, _perhaps(random.choice(ADJECTIVES["thing"]), random, 0.6))
    circumstances = zip(chosen, random.sample(WHERE, length), random.sample(WHEN, length), strict=True)
    return [
        Event(
            *core,
            agent_adjective=_perhaps(looks[core[0]], random, 0.7),
            thing_adjective=_perhaps(looks[core[2]], random, 0.7),
            place=_perhaps(place, random, 0.7),
            time=_perhaps(time, random, 0.7),
            negated=random.random() < 0.1,
        )
        for core, place, time in circumstances
    ]


def _perhaps(word: str | None, random: Random, probability: float) -> str | None:
    return word if random.random() < probability else None


def inquiry(
    events: list[Event], random: Random, buckets: range, unanswerable: float
) -> tuple[str, Event | None, str] | None:
    """A question, the one event that answers it (None: unsaid) and by which part; None where the story lends itself to none."""
    part, silent = random.choice(QUESTION_PARTS), random.random() < unanswerable
    for event in random.sample(events, len(events)):
        meant = _unsaid(event, events, part, random) if silent else event
        question, named = ask(meant, part, random)
        fitting = [other for other in events if _fits(other, meant, named)]
        said = getattr(event, part) is not None and not event.negated
        if not silent and said and fitting == [event]:
            return question, event, part
        if silent and bucket(meant.core) in buckets and any(getattr(other, part) for other in events):
            left_unsaid = meant is event and fitting == [event] and not said
            if left_unsaid or (meant is not event and not fitting):
                return question, None, part
    return None


def _unsaid(event: Event, events: list[Event], part: str, random: Random) -> Event:
    """What the story does not tell: the opposite deed, somebody else, something else; or the event itself, if mute on it."""
    if (getattr(event, part) is None or event.negated) and random.random() < 0.7:
        return event
    other = random.choice(events)
    others: dict[str, dict[str, Any]] = {
        "verb": {"verb": random.choice((reverse(event.verb), other.verb))},
        "agent": {"agent": other.agent, "agent_adjective": other.agent_adjective},
        "thing": {"thing": other.thing, "thing_adjective": other.thing_adjective},
    }
    return replace(event, **others[random.choice([role for role in ROLES if role != part])])


def _fits(event: Event, meant: Event, named: tuple[str, ...]) -> bool:
    """Whether an event may be the one that a question means, by the parts that it names."""
    return all(getattr(event, name) in (None, getattr(meant, name)) for name in named)


def ask(event: Event, part: str, random: Random) -> tuple[str, tuple[str, ...]]:
    """A question for a part of an event, and the names of the parts by which it says what event is meant."""
    agent, thing = noun_phrases(without(event, [name for name in LOOKS if random.random() < 0.4]))
    verb = VERBS[event.verb]
    base, past, participle = verb.other if random.random() < 0.25 else (verb.base, verb.past, verb.participle)
    said = [name for name in ("place", "time") if name != part and getattr(event, name)]
    more = [random.choice(said)] if said and random.random() < 0.25 else []
    tail = "".join(f" {getattr(event, name)}" for name in more)
    passive, word = random.random() < 0.3, {"place": "where", "time": "when"}.get(part)
    if part == "agent":
        question = f"who was {thing} {participle} by" if passive else f"who {past} {thing}"
    elif part == "thing":
        question = f"what was {participle} by {agent}" if passive else f"what did {agent} {base}"
    else:
        question = f"{word} was {thing} {participle} by {agent}" if passive else f"{word} did {agent} {base} {thing}"
    return f"{question}{tail} ?", (*(role for role in ROLES if role != part), *more)


def span(events: list[Event], sentences: list[str], event: Event, part: str) -> tuple[list[str], list[int]]:
    """The answer's wordings, fullest first, and where in the context each begins, in characters."""
    number = events.index(event)
    agent, thing = noun_phrases(event)
    phrase = {"agent": agent, "thing": thing}.get(part) or getattr(event, part)
    at = sum(len(sentence) + 1 for sentence in sentences[:number])
    at += f" {sentences[number]} ".index(f" {phrase} ")
    texts = list(_wordings(phrase, noun=part in ROLES))
    return texts, [at + len(phrase) - len(text) for text in texts]


def _wordings(phrase: str, noun: bool) -> Iterator[str]:
    words = phrase.split()
    while words[0] in LEADING:
        yield " ".join(words)
        words = words[1:]
    yield " ".join(words)
    if noun and len(words) > 1:
        yield words[-1]
