"""What was probably meant: the nearest right name, and the list to choose from, in one line."""

from collections.abc import Iterable
from difflib import SequenceMatcher

NEAR = 0.6  # similarity (difflib's ratio) from which a name is offered as the one that was meant
SHOWN = 40  # names of a list that are still read in one line


def ranked(word: str, choices: Iterable[str]) -> list[str]:
    """`choices`, most similar to `word` first; equal ones in order of the alphabet."""
    return sorted(choices, key=lambda name: (-_similarity(word, name), name))


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The most similar choice, or None where nothing is near."""
    best = next(iter(ranked(word, choices)), None)
    return best if best is not None and _similarity(word, best) >= NEAR else None


def listed(word: str, choices: Iterable[str]) -> str:
    """All choices in one line, most similar to `word` first; in order of the alphabet where none is near."""
    names = sorted(choices)
    if nearest(word, names) is not None:
        names = ranked(word, names)
    more = f" and {len(names) - SHOWN} more (protoformer list)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


PLUGINS = {  # groups of Hydra whose options are packages of their own
    "hydra/launcher": "a launcher is a plugin, and none of that name is installed (pip install hydra-joblib-launcher, ...); "
    "without one the jobs of -m run one "
    "after another, or side by side with hardware.pool=all, and docs/clusters.md has an array of jobs",
    "hydra/sweeper": "a sweeper is a plugin, and none of that name is installed; without one -m draws every combination",
}


def advice(word: str, choices: Iterable[str], what: str = "choose from", prefix: str = "") -> str:
    """`did you mean <prefix><name>? <what>: <all names>`; without the question where nothing is near."""
    names = list(choices)
    if not names:
        return "there is nothing to choose from"
    meant = nearest(word, names)
    question = "" if meant is None else f"did you mean {prefix}{meant}? "
    return f"{question}{what[:1].upper() + what[1:] if question else what}: {listed(word, names)}"


def _similarity(word: str, name: str) -> float:
    return SequenceMatcher(None, word.lower(), name.lower()).ratio()
