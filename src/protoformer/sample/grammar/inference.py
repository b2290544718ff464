"""Pairs that are labelled by construction: entailment, neutral, contradiction, paraphrase, similarity."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from protoformer.sample.grammar.lexicon import AGENTS, OPPOSITE, THINGS, VERBS
from protoformer.sample.grammar.meaning import (
    Event,
    Genre,
    draw,
    effective_genre,
    generalised,
    realise,
    without,
    words_for,
)

Draw = Callable[[], Event]


def spoken(event: Event, random: Random) -> str:
    """In any of the wordings that mean the same."""
    return realise(event, passive=random.random() < 0.25, synonym=random.random() < 0.2)


def weakened(event: Event, random: Random, keep: tuple[str, ...] = ()) -> Event:
    """What the event implies: parts left unsaid, nouns made more general (neither under a negation)."""
    if event.negated:
        return event
    event = without(event, [name for name in event.said() if name not in keep and random.random() < 0.3])
    for role, adjective in (("agent", "agent_adjective"), ("thing", "thing_adjective")):
        if adjective not in keep and random.random() < 0.1:
            event = generalised(event, role)  # type: ignore[arg-type]  # one of the two above
    return event


def entailed(premise: Event, random: Random, genre: Genre) -> Event:
    return weakened(premise, random)


def contradicted(premise: Event, random: Random, genre: Genre) -> Event:
    """The same denied, or its opposite claimed: another verb, or another adjective."""
    adjectives = [name for name in ("agent_adjective", "thing_adjective") if getattr(premise, name)]
    changes = ["deny"] if premise.negated else ["deny", "verb", *adjectives[:1]]
    change = random.choice(changes)
    if change == "deny":
        kept = premise if premise.negated else weakened(premise, random)
        return replace(kept, negated=not kept.negated)
    if change == "verb":
        return replace(weakened(premise, random), verb=VERBS[premise.verb].opposite)
    return changed(weakened(premise, random, keep=(change,)), change, OPPOSITE[getattr(premise, change)])


def unknown(premise: Event, random: Random, genre: Genre) -> Event:
    """What the premise says nothing of: a further circumstance, another deed, another thing."""
    unsaid = [name for name in ("place", "time", "manner", "agent_adjective") if not getattr(premise, name)]
    change = random.choice(["verb", "thing", "agent"] if premise.negated or not unsaid else unsaid)
    kept = weakened(premise, random)
    if change == "verb":
        related = (premise.verb, VERBS[premise.verb].opposite)
        return replace(kept, verb=random.choice([verb for verb in VERBS if verb not in related]))
    if change in ("thing", "agent"):
        others = [noun for noun in (THINGS if change == "thing" else AGENTS) if noun != getattr(premise, change)]
        return changed(kept, change, random.choice(others))
    return changed(kept, change, random.choice(words_for(change, effective_genre(genre, random))))


def changed(event: Event, part: str, word: str) -> Event:
    """The same with one part put differently."""
    parts: dict[str, Any] = {part: word}
    return replace(event, **parts)


RELATIONS = (entailed, unknown, contradicted)  # in the order of MNLI's labels


def inference(random: Random, fresh: Draw, label: int, genre: Genre) -> tuple[str, str]:
    """Premise and hypothesis of a label: 0 entailment, 1 neutral, 2 contradiction."""
    premise = fresh()
    return spoken(premise, random), spoken(RELATIONS[label](premise, random, genre), random)


def paraphrase(random: Random, fresh: Draw, label: int) -> tuple[str, str]:
    """Two wordings of one event, or of two: such as differ in one part, and such as share nothing by intent."""
    one = fresh()
    other = one if label else fresh()
    if not label and (other == one or random.random() < 0.5):
        other = replace(unknown(replace(one, negated=True), random, "town"), negated=one.negated)
    passive, synonym = random.random() < 0.5, random.random() < 0.5
    return realise(one, passive=passive, synonym=synonym), realise(other, passive=not passive, synonym=not synonym)


PARTS = ("agent", "verb", "thing", "place", "time")


def similarity(random: Random, fresh: Draw, shared: int) -> tuple[str, str]:
    """Two full sentences that share `shared` of the five parts: who, what, whom, where, when."""
    one = fresh()
    same = random.sample(PARTS, shared)
    while True:
        other = draw(random, said=1.0)
        related = {one.verb, VERBS[one.verb].opposite}
        if all(getattr(one, part) != getattr(other, part) for part in PARTS) and other.verb not in related:
            break
    for part in same:
        other = changed(other, part, getattr(one, part))
    other = replace(other, agent_adjective=None, thing_adjective=None)
    return realise(one), realise(other, passive=random.random() < 0.3, synonym=random.random() < 0.3)
