"""Dependency trees of the sample's sentences, as Universal Dependencies draws them (https://universaldependencies.org/u/dep/)."""

from dataclasses import dataclass

from protoformer.sample.grammar.lexicon import VERBS
from protoformer.sample.grammar.meaning import Event

PREPOSITIONS = frozenset({"in", "at", "near", "by", "on", "after", "before", "during"})
ROOT = 0


@dataclass
class Word:
    """A word with its part of speech; the head is the number of a word, from 1, or ROOT."""

    form: str
    part_of_speech: str
    relation: str
    head: int = ROOT


def tree(event: Event, *, passive: bool = False, synonym: bool = False) -> list[Word]:
    """The words of `meaning.realise` with their arcs."""
    words: list[Word] = []
    agent_relation, thing_relation = ("obl:agent", "nsubj:pass") if passive else ("nsubj", "obj")
    agent = _noun_phrase(event.agent, event.agent_adjective, agent_relation)
    thing = _noun_phrase(event.thing, event.thing_adjective, thing_relation)
    base, past, participle = (
        VERBS[event.verb].other
        if synonym
        else (VERBS[event.verb].base, VERBS[event.verb].past, VERBS[event.verb].participle)
    )
    manner = [Word(event.manner, "ADV", "advmod")] if event.manner else []
    nothing = [Word("not", "PART", "advmod")] if event.negated else []
    if passive:
        before = [Word("was", "AUX", "aux:pass"), *nothing, *manner]
    else:
        before = [*([Word("did", "AUX", "aux"), *nothing] if event.negated else []), *manner]
    verb = Word(participle if passive else base if event.negated else past, "VERB", "root")
    of_verb = [*before, verb]
    tail = [_phrase(part) for part in (event.place, event.time) if part]
    by = Word("by", "ADP", "case")
    phrases = [thing, of_verb, [by, *agent], *tail] if passive else [agent, of_verb, thing, *tail]
    for phrase in phrases:
        _join(words, phrase, is_verbs=phrase is of_verb)
    words.append(Word(".", "PUNCT", "punct"))
    root = next(number for number, word in enumerate(words, start=1) if word.relation == "root")
    for number, word in enumerate(words, start=1):
        if number != root and word.head == ROOT:
            word.head = root
    return words


def conllu(words: list[Word], name: str) -> str:
    """A sentence in CoNLL-U, with the blank line that ends it."""
    lines = [f"# sent_id = {name}", f"# text = {' '.join(word.form for word in words)}"]
    for number, word in enumerate(words, start=1):
        columns = (number, word.form, "_", word.part_of_speech, "_", "_", word.head, word.relation, "_", "_")
        lines.append("\t".join(map(str, columns)))
    return "\n".join(lines) + "\n\n"


def _noun_phrase(noun: str, adjective: str | None, relation: str) -> list[Word]:
    """The noun comes last, and is what the others depend on."""
    look = [Word(adjective, "ADJ", "amod")] if adjective else []
    return [Word("the", "DET", "det"), *look, Word(noun, "NOUN", relation)]


def _phrase(text: str) -> list[Word]:
    """When or where: a noun with what stands before it."""
    *before, noun = text.split()
    words = [
        Word(form, "ADP", "case") if form in PREPOSITIONS
        else Word(form, "DET", "det") if form in ("the", "every")
        else Word(form, "ADJ", "amod")
        for form in before
    ]  # fmt: skip
    return [*words, Word(noun, "NOUN", "obl")]


def _join(words: list[Word], phrase: list[Word], *, is_verbs: bool) -> None:
    """Append a phrase; all of its words but the last, its noun, depend on that. The verb's own words depend on it later."""
    words += phrase
    if not is_verbs:
        for word in phrase[:-1]:
            word.head = len(words)
