"""SWAG and COPA in miniature: which sentence follows, which one is the cause or the effect."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pyarrow as pa

from protoformer.sample.glue import Rows, article
from protoformer.sample.grammar.consequences import FEELINGS, Core, cores, feeling, reason, reverse
from protoformer.sample.grammar.inference import spoken
from protoformer.sample.grammar.lexicon import ADJECTIVES, AGENTS, CONTAINERS, OPPOSITE, THINGS, VERBS, WHEN, WHERE
from protoformer.sample.grammar.meaning import Event, bucket, realise

SWAG = pa.schema(
    [
        *((name, pa.string()) for name in ("video-id", "fold-ind", "startphrase", "sent1", "sent2", "gold-source")),
        *((f"ending{number}", pa.string()) for number in range(4)),
        ("label", pa.int64()),
    ]
)
COPA = pa.schema(
    [
        *((name, pa.string()) for name in ("premise", "choice1", "choice2", "question")),
        ("idx", pa.int32()),
        ("label", pa.int64()),
    ]
)
HELPING, HINDERING = ("very ", "rather ", "really "), ("too ", "very ", "rather ")  # degrees of what a thing is like


def eventful(random: Random, known: list[Core], negated: float = 0.0) -> Event:
    """An event of those that a split may tell of, with some of its circumstances."""

    def perhaps(words: list[str], probability: float) -> str | None:
        return random.choice(words) if random.random() < probability else None

    return Event(
        *random.choice(known),
        agent_adjective=perhaps(ADJECTIVES["agent"], 0.3),
        thing_adjective=perhaps(ADJECTIVES["thing"], 0.3),
        place=perhaps(WHERE, 0.7),
        time=perhaps(WHEN, 0.5),
        negated=random.random() < negated,
    )


def another(words: list[str], random: Random, *but: str | None) -> str:
    """Any of the words but these."""
    while (word := random.choice(words)) in but:
        pass
    return word


Continuation = tuple[
    Event, str, list[str]
]  # what happened, how the next sentence starts, its endings (the right one first)


def undone(event: Event, random: Random) -> Continuation:
    """Lost, then found: the deed that sets right another, of four with two things."""
    event = replace(event, negated=False)
    verbs = [reverse(event.verb), another(list(VERBS), random, event.verb, reverse(event.verb))]
    deeds = [VERBS[verb].other[1] if random.random() < 0.4 else VERBS[verb].past for verb in verbs]
    things = [event.thing, another(THINGS, random, event.thing)]
    return event, f"the {event.agent}", [f"{deed} the {thing} ." for deed in deeds for thing in things]


def described(event: Event, random: Random) -> Continuation:
    """What the thing was like, and where."""
    look, place = event.thing_adjective or random.choice(ADJECTIVES["thing"]), event.place or random.choice(WHERE)
    event = replace(event, thing_adjective=look, place=place, negated=False)
    verb = VERBS[event.verb]
    start = f"what the {event.agent} {verb.other[1] if random.random() < 0.4 else verb.past} was"
    places = [place, another(WHERE, random, place)]
    return event, start, [f"{article(a)} {event.thing} {where} ." for a in (look, OPPOSITE[look]) for where in places]


def denied(event: Event, random: Random) -> Continuation:
    """What somebody or something was not: the opposite of what it was said to be."""
    role, noun = random.choice((("agent", event.agent), ("thing", event.thing)))
    look, other = random.choice(ADJECTIVES[role]), ""
    while not other or other in (look, OPPOSITE[look]):
        other = random.choice(ADJECTIVES[role])
    looks = {"agent": replace(event, agent_adjective=look), "thing": replace(event, thing_adjective=look)}
    endings = [f"{word} ." for word in (OPPOSITE[look], look, other, OPPOSITE[other])]
    return looks[role], f"the {noun} was not", endings


def felt(event: Event, random: Random) -> Continuation:
    """How a deed of FEELINGS left its doer, and when."""
    event = replace(event, agent_adjective=None, time=event.time or random.choice(WHEN))
    moods = [feeling(event), OPPOSITE[feeling(event)]]
    times = [event.time, another(WHEN, random, event.time)]
    return event, f"the {event.agent} was", [f"{mood} {time} ." for mood in moods for time in times]


def restated(event: Event, random: Random) -> Continuation:
    """The same from the thing's side: what was done to it, and by whom."""
    verbs = [event.verb, another(list(VERBS), random, event.verb, reverse(event.verb))]
    deeds = [VERBS[verb].other[2] if random.random() < 0.7 else VERBS[verb].participle for verb in verbs]
    agents = [event.agent, another(AGENTS, random, event.agent)]
    start = f"the {event.thing} was{' not' if event.negated else ''}"
    return event, start, [f"{deed} by the {agent} ." for deed in deeds for agent in agents]


CONTINUATIONS: tuple[Callable[[Event, Random], Continuation], ...] = (undone, described, denied, felt, restated)


def swag(random: Random, buckets: range) -> Rows:
    """A sentence, the start of the next and four endings. Any word of an ending stands in wrong ones as often as in right."""
    known = cores(buckets)
    while True:
        event, follow = eventful(random, known, negated=0.25), random.choice(CONTINUATIONS)
        if follow is felt and event.verb not in FEELINGS:
            continue
        event, start, endings = follow(event, random)
        order = random.sample(range(4), 4)
        first = spoken(event, random)
        yield {
            "video-id": f"sample_{random.getrandbits(40):010x}",
            "fold-ind": str(random.randrange(20000)),
            "startphrase": f"{first} {start}",
            "sent1": first,
            "sent2": start,
            "gold-source": "gold",
            **{f"ending{position}": endings[number] for position, number in enumerate(order)},
            "label": order.index(0),
        }


def copa(random: Random, buckets: range) -> Rows:
    """A premise and two choices: by feelings, by what things are like, and by what fits into what."""
    while True:
        question = random.choice(("cause", "effect"))
        (cause, effect), (other_cause, other_effect) = random.choice((moved, caused, fitted))(random, buckets)
        premise, right, wrong = (effect, cause, other_cause) if question == "cause" else (cause, effect, other_effect)
        label = random.randrange(2)
        choices = (wrong, right) if label else (right, wrong)
        yield {"premise": premise, "choice1": choices[0], "choice2": choices[1], "question": question, "label": label}


Link = tuple[str, str]  # cause, effect


def moved(random: Random, buckets: range) -> tuple[Link, Link]:
    """A deed leaves its doer happy, sad, rich or poor; its opposite, or its not being done, leaves the reverse."""
    known = cores(buckets)
    event = eventful(random, known, negated=0.5)
    while event.verb not in FEELINGS:
        event = eventful(random, known, negated=0.5)
    event = replace(event, agent_adjective=None)
    contrary = replace(event, verb=reverse(event.verb))
    if random.random() < 0.5 or bucket(contrary.core) not in buckets:
        contrary = replace(event, negated=not event.negated)
    degree, role = random.choice(("", "very ", "really ")), f"the {event.agent} was"
    one, other = ((spoken(case, random), f"{role} {degree}{feeling(case)} .") for case in (event, contrary))
    return one, other


def caused(random: Random, buckets: range) -> tuple[Link, Link]:
    """What the thing was like, that something was done to it or not."""
    event = replace(eventful(random, cores(buckets), negated=0.5), thing_adjective=None)
    contrary = replace(event, negated=not event.negated)
    degree = random.choice(HINDERING if event.negated else HELPING)
    passive, synonym = random.random() < 0.2, random.random() < 0.3
    one, other = (
        (f"the {case.thing} was {degree}{reason(case)} .", realise(case, passive=passive, synonym=synonym))
        for case in (event, contrary)
    )
    return one, other


def fitted(random: Random, buckets: range) -> tuple[Link, Link]:
    """Big things do not fit into small containers, and the reverse."""
    thing, container = random.choice(THINGS), random.choice(CONTAINERS)
    while bucket((thing, container)) not in buckets:
        thing, container = random.choice(THINGS), random.choice(CONTAINERS)
    big, small = random.choice(("big", "large", "wide")), random.choice(("small", "narrow"))
    meant, prevents_fit, allows_fit = random.choice(((thing, big, small), (container, small, big)))
    options = [(prevents_fit, "not "), (allows_fit, "")]
    random.shuffle(options)
    degree = random.choice(HINDERING if options[0][1] else HELPING)
    one, other = (
        (f"the {meant} was {degree}{size} .", f"the {thing} did {word}fit into the {container} .")
        for size, word in options
    )
    return one, other
