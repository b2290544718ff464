"""What follows from what in the sample's world: how a deed leaves whoever did it, and what makes it come about."""

from functools import cache

from protoformer.sample.grammar.lexicon import AGENTS, OPPOSITE, THINGS, VERBS
from protoformer.sample.grammar.meaning import Event, bucket

Core = tuple[str, str, str]

FEELINGS = {"find": "happy", "lose": "sad", "repair": "happy", "damage": "sad", "sell": "rich", "buy": "poor"}
REASONS = {  # what a thing must be like for the deed to come about; its opposite prevents it
    "buy": "cheap",
    "sell": "old",
    "find": "bright",
    "lose": "small",
    "repair": "old",
    "damage": "soft",
    "push": "light",
    "pull": "light",
    "lift": "light",
    "drop": "heavy",
}


@cache
def cores(buckets: range) -> list[Core]:
    """Who did what to what: all that a split may tell of."""
    every = ((agent, verb, thing) for agent in AGENTS for verb in VERBS for thing in THINGS)
    return [core for core in every if bucket(core) in buckets]


@cache
def settled(buckets: range) -> dict[str, list[Core]]:
    """Those of which the split may tell the opposite deed too, by agent and by thing."""
    cores_of: dict[str, list[Core]] = {}
    for core in cores(buckets):
        who, verb, what = core
        if bucket((who, reverse(verb), what)) in buckets:
            cores_of.setdefault(who, []).append(core)
            cores_of.setdefault(what, []).append(core)
    return cores_of


def reverse(verb: str) -> str:
    return VERBS[verb].opposite


def feeling(event: Event) -> str:
    """What the deed, or its not being done, leaves its doer. KeyError for a verb that moves nobody (see FEELINGS)."""
    felt = FEELINGS[event.verb]
    return OPPOSITE[felt] if event.negated else felt


def reason(event: Event) -> str:
    """What the thing was like, that this was done to it, or was not."""
    cause = REASONS[event.verb]
    return OPPOSITE[cause] if event.negated else cause
