"""The GLUE tasks in miniature, each row in the hub's schema with a label that follows from how it was made."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from protoformer.sample.grammar.inference import Draw, inference, paraphrase, similarity, spoken
from protoformer.sample.grammar.lexicon import ASPECTS, BAD, CONTAINERS, DEGREES, GOOD, PRAISED, THINGS, VERBS
from protoformer.sample.grammar.meaning import Event, Genre, bucket, draw, noun_phrases, realise, without

Row = dict[str, Any]
Rows = Iterator[Row]


def events(random: Random, buckets: range, genre: Genre = "town", said: float = 0.5, negated: float = 0.3) -> Draw:
    """A source of events whose core lies in the split's buckets."""

    def fresh() -> Event:
        while True:
            event = draw(random, genre, said, negated)
            if bucket(event.core) in buckets:
                return event

    return fresh


def mnli(random: Random, buckets: range, genre: Genre = "town") -> Rows:
    fresh = events(random, buckets, genre, said=0.35, negated=0.05)
    while True:
        label = random.randrange(3)
        premise, hypothesis = inference(random, fresh, label, genre)
        yield {"premise": premise, "hypothesis": hypothesis, "label": label}


def rte(random: Random, buckets: range, genre: Genre = "town") -> Rows:
    """Two events are told, the hypothesis is about one of them."""
    fresh = events(random, buckets, genre, said=0.3)
    while True:
        label = random.randrange(2)
        relation = 0 if label == 0 else random.choice((1, 2))
        premise, hypothesis = inference(random, fresh, relation, genre)
        more = spoken(fresh(), random)
        sentences = [premise, more] if random.random() < 0.5 else [more, premise]
        yield {"sentence1": " ".join(sentences), "sentence2": hypothesis, "label": label}


def mrpc(random: Random, buckets: range, genre: Genre = "town") -> Rows:
    fresh = events(random, buckets, genre)
    while True:
        label = int(random.random() < 0.6)
        first, second = paraphrase(random, fresh, label)
        yield {"sentence1": first, "sentence2": second, "label": label}


def stsb(random: Random, buckets: range, genre: Genre = "town") -> Rows:
    fresh = events(random, buckets, genre, said=1.0, negated=0.0)
    while True:
        shared = random.randrange(6)
        one = similarity(random, lambda: without(fresh(), ["agent_adjective", "thing_adjective"]), shared)
        yield {"sentence1": one[0], "sentence2": one[1], "label": float(shared)}


def cola(random: Random, buckets: range, genre: Genre = "town") -> Rows:
    fresh = events(random, buckets, genre, said=0.4)
    while True:
        event, label = fresh(), random.randrange(2)
        sentence = realise(event, passive=random.random() < 0.4, synonym=random.random() < 0.3)
        sentence = sentence if label else broken(event, sentence, random)
        if bucket(sentence) in buckets:  # what lost a part could come from any event
            yield {"sentence": sentence, "label": label}


def broken(event: Event, sentence: str, random: Random) -> str:
    """A sentence with its order, its verb form or one of its arguments spoilt."""
    words = sentence.split()
    defect = random.choice(("article", "form", "argument"))
    if defect == "article":  # the article behind its noun
        at = random.choice([i for i, word in enumerate(words[:-1]) if word == "the"])
        words[at], words[at + 1] = words[at + 1], words[at]
        return " ".join(words)
    agent, thing = noun_phrases(event)
    verb = VERBS[event.verb]
    tail = "".join(f" {part}" for part in (event.place, event.time) if part)
    if defect == "form":
        form = f"did not {verb.past}" if event.negated else f"was {verb.base}"
        return f"{agent} {form} {thing}{tail} ." if event.negated else f"{thing} {form} by {agent}{tail} ."
    return f"{agent} {verb.past}{tail} ." if random.random() < 0.5 else f"{verb.past} {thing}{tail} ."


def sst2(random: Random, buckets: range, genre: Genre = "town") -> Rows:
    while True:
        label = random.randrange(2)
        sentence = judgement(label, random)
        if bucket(sentence) in buckets:
            yield {"sentence": sentence, "label": label}


def judgement(label: int, random: Random, work: str | None = None) -> str:
    """Praise (1) or blame (0) of a work (None: of any), with negation and concession in the way."""
    work, aspect, degree = work or random.choice(PRAISED), random.choice(ASPECTS), random.choice(DEGREES)
    right, wrong = (GOOD, BAD) if label else (BAD, GOOD)
    own, opposite = random.choice(right), random.choice(wrong)
    return random.choice(
        (
            f"the {work} was {degree}{own} .",
            f"the {aspect} of the {work} was {degree}{own} .",
            f"the {work} was not {degree}{opposite} .",
            f"although its {aspect} was {opposite} , the {work} was {degree}{own} .",
            f"i found the {work} {degree}{own} , with {article(own)} {aspect} .",
            f"what {article(own)} {work} !",
        )
    )


def article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def question(event: Event, part: str, synonym: bool = False) -> str:
    """Where, when, or who: a question that the event answers if it says so."""
    agent, thing = noun_phrases(event)
    verb = VERBS[event.verb]
    base, past, _ = verb.other if synonym else (verb.base, verb.past, verb.participle)
    if part == "agent":
        return f"who {past} {thing} ?"
    return f"{'where' if part == 'place' else 'when'} did {agent} {base} {thing} ?"


def qqp(random: Random, buckets: range, genre: Genre = "town") -> Rows:
    """The same question in other words, or one about something else."""
    fresh = events(random, buckets, genre, said=0.3, negated=0.0)
    while True:
        label = random.randrange(2)
        one, part = fresh(), random.choice(("place", "time", "agent"))
        other, other_part = one, part
        if not label:
            if random.random() < 0.5:
                while question(other, part) == question(one, part):  # "who ...?" says nothing of who
                    other = fresh()
            else:
                other_part = random.choice([a for a in ("place", "time", "agent") if a != part])
        flip = random.random() < 0.5
        first, second = question(one, part, flip), question(other, other_part, not flip)
        if bucket((first, second)) in buckets:  # "who ...?" does not say who, and so could come from any event
            yield {"question1": first, "question2": second, "label": label}


def qnli(random: Random, buckets: range, genre: Genre = "town") -> Rows:
    """Does the sentence answer the question? Not where it leaves the answer unsaid, or tells of something else."""
    fresh = events(random, buckets, genre, said=0.5, negated=0.0)
    while True:
        label = random.randrange(2)
        event, part = fresh(), random.choice(("place", "time"))
        if getattr(event, part) is None:
            continue
        said = event if label == 0 else (without(event, [part]) if random.random() < 0.5 else fresh())
        yield {
            "question": question(event, part, random.random() < 0.3),
            "sentence": realise(said, passive=random.random() < 0.3),
            "label": label,
        }


def wnli(random: Random, buckets: range, genre: Genre = "town") -> Rows:
    """What "it" is: too big is the thing, too small is the container."""
    while True:
        thing, container, label = random.choice(THINGS), random.choice(CONTAINERS), random.randrange(2)
        if bucket((thing, container)) not in buckets:
            continue
        size = random.choice(("big", "large", "wide")) if random.random() < 0.5 else random.choice(("small", "narrow"))
        meant, not_meant = (thing, container) if size in ("big", "large", "wide") else (container, thing)
        yield {
            "sentence1": f"the {thing} did not fit into the {container} because it was too {size} .",
            "sentence2": f"the {meant if label else not_meant} was too {size} .",
            "label": label,
        }


TASKS: dict[str, Callable[[Random, range, Genre], Rows]] = {
    "cola": cola,
    "sst2": sst2,
    "mrpc": mrpc,
    "stsb": stsb,
    "qqp": qqp,
    "mnli": mnli,
    "qnli": qnli,
    "rte": rte,
    "wnli": wnli,
    "ax": mnli,
}
