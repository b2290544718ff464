"""RACE and Story Cloze in miniature: a question on an article with four answers to choose from; how a story ends."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pyarrow as pa

from protoformer.sample.choices import another, eventful
from protoformer.sample.glue import Rows
from protoformer.sample.grammar.consequences import FEELINGS, Core, cores, feeling
from protoformer.sample.grammar.inference import spoken
from protoformer.sample.grammar.lexicon import ADJECTIVES, AGENTS, DEGREES, OPPOSITE, THINGS, VERBS, WHEN, WHERE
from protoformer.sample.grammar.meaning import Event, noun_phrases
from protoformer.sample.questions import inquiry, story

CHOICE_NAMES = "ABCD"
SENTENCES = {"middle": (3, 4), "high": (4, 5, 6), "all": (3, 4, 5, 6)}  # of an article, by subset
ABSENT = 0.6  # fraction of wrong answers that the article does not hold
DESCRIBED = 0.42  # fraction of the nouns of a story that have an adjective
RACE = pa.schema(
    [
        *((name, pa.string()) for name in ("example_id", "article", "answer", "question")),
        ("options", pa.list_(pa.string())),
    ]
)
STORY_CLOZE = pa.schema(
    [
        *((name, pa.string()) for name in ("story_id", *(f"input_sentence_{number}" for number in range(1, 5)))),
        *((name, pa.string()) for name in ("sentence_quiz1", "sentence_quiz2")),
        ("answer_right_ending", pa.int64()),
    ]
)


def race(random: Random, buckets: range, subset: str) -> Rows:
    """Who, what, where or when: the right answer and three of its kind, of the article where it holds any others."""
    while True:
        events = story(random, buckets)
        if len(events) not in SENTENCES[subset] or not (question_parts := inquiry(events, random, buckets, 0.0)):
            continue
        question, event, part = question_parts
        if event is None:
            continue
        right = phrase(event, part)
        others = [phrase(other, part) for other in events if getattr(other, part) not in (None, getattr(event, part))]
        options = [right]
        while len(options) < len(CHOICE_NAMES):
            other = random.choice(others) if others and random.random() > ABSENT else elsewhere(part, random)
            if other.split()[-1] not in [option.split()[-1] for option in options]:
                options.append(other)
            others = [text for text in others if text != other]
        order = random.sample(range(len(CHOICE_NAMES)), len(CHOICE_NAMES))
        yield {
            "example_id": f"{subset}{random.getrandbits(32)}.txt",
            "article": " ".join(spoken(each, random) for each in events),
            "answer": CHOICE_NAMES[order.index(0)],
            "question": question,
            "options": [options[number] for number in order],
        }


def phrase(event: Event, part: str) -> str:
    """A part of an event as it is told."""
    agent, thing = noun_phrases(event)
    return {"agent": agent, "thing": thing}.get(part) or str(getattr(event, part))


def elsewhere(part: str, random: Random) -> str:
    """Anybody, anything, any place or any time; described as often as in a story."""
    noun = random.choice({"agent": AGENTS, "thing": THINGS, "place": WHERE, "time": WHEN}[part])
    if part in ("place", "time"):
        return noun
    return f"the {random.choice(ADJECTIVES[part])} {noun}" if random.random() < DESCRIBED else f"the {noun}"


Tale = tuple[Event, str, tuple[str, str]]  # its last deed, the remark before it, how it ends and how it does not


def mood(event: Event, random: Random) -> Tale | None:
    """A deed leaves its doer happy or sad, rich or poor."""
    if event.verb not in FEELINGS:
        return None
    event, degree = replace(event, agent_adjective=None), random.choice(DEGREES)
    right, wrong = (f"the {event.agent} was {degree}{felt} ." for felt in (feeling(event), OPPOSITE[feeling(event)]))
    return event, looks(event.thing, random), (right, wrong)


def look(event: Event, random: Random) -> Tale:
    """What is heavy is not light."""
    remark = looks(event.thing, random)
    adjective = remark.split()[-2]
    right, wrong = (f"the {event.thing} was not {word} ." for word in (OPPOSITE[adjective], adjective))
    return event, remark, (right, wrong)


def deed(event: Event, random: Random) -> Tale:
    """It was that thing, and no other, to which it was done."""
    event, done = replace(event, negated=False), VERBS[event.verb].other[2]
    things = (event.thing, another(THINGS, random, event.thing))
    right, wrong = (f"the {thing} was {done} by the {event.agent} ." for thing in things)
    return event, looks(event.thing, random), (right, wrong)


def looks(thing: str, random: Random) -> str:
    return f"the {thing} was {random.choice(DEGREES)}{random.choice(ADJECTIVES['thing'])} ."


TALES: tuple[Callable[[Event, Random], Tale | None], ...] = (mood, look, deed)


def story_cloze(random: Random, buckets: range) -> Rows:
    """Two deeds of one person, a remark on a thing, a last deed, and two endings of which one fits."""
    known = cores(buckets)
    while True:
        event, tale = eventful(random, known, negated=0.3), random.choice(TALES)
        if (ending := tale(replace(event, thing_adjective=None), random)) is None:
            continue
        last, remark, (right, wrong) = ending
        before = [spoken(eventful(random, _beside(last, known)), random) for _ in range(2)]
        label = random.randrange(2)
        texts = [*before, remark, spoken(last, random), *((wrong, right) if label else (right, wrong))]
        yield {
            "story_id": f"{random.getrandbits(96):024x}",
            **dict(zip(STORY_CLOZE.names[1:-1], texts, strict=True)),
            "answer_right_ending": label + 1,
        }


def _beside(event: Event, known: list[Core]) -> list[Core]:
    """What else the person of an event may have done: other deeds, to other things."""
    return [core for core in known if core[0] == event.agent and core[1] != event.verb and core[2] != event.thing]
